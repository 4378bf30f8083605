// Four steps that point at prompt, text, threshold and cost, beside what they talk about and never over it. Not modal:
// nothing outside the card is covered against clicks, nothing moves when it goes. It shows itself once, to a visitor who
// has done nothing for a while; whoever is at work already is left alone. Runs as gradio's js_on_load.
const KEY = 'citer-guide', IDLE_MS = 2000, GAP = 12, MARGIN = 8;
const opener = find('.guide-open'), guide = find('.guide'), card = find('.guide-card'), ring = find('.guide-ring');
const back = find('.guide-back'), next = find('.guide-next'), steps = [...element.querySelectorAll('.guide-step')];
let current = 0, side = null, watched = null;

const seen = () => { try { return localStorage.getItem(KEY) !== null; } catch { return false; } };
const remember = () => { try { localStorage.setItem(KEY, 'seen'); } catch { /* private windows forget it */ } };
const open = () => !guide.hidden;

// ---- place ------------------------------------------------------------------------------------------------------------

const target = () => document.querySelector(steps[current].dataset.target);

// Around all that the step talks about.
const area = () => {
  const boxes = [...document.querySelectorAll(steps[current].dataset.target)].map((node) => node.getBoundingClientRect());
  const most = (pick, side) => pick(...boxes.map((box) => box[side]));
  const [left, top, right, bottom] = [most(Math.min, 'left'), most(Math.min, 'top'), most(Math.max, 'right'), most(Math.max, 'bottom')];
  return { left, top, right, bottom, width: right - left, height: bottom - top };
};
const clamp = (value, size, whole) => Math.max(MARGIN, Math.min(value, whole - size - MARGIN));

const places = (at) => {
  const { clientWidth: width, clientHeight: height } = document.documentElement, { offsetWidth: w, offsetHeight: h } = card;
  const beside = clamp(at.top, h, height), along = clamp(at.left, w, width);
  return {
    left: [at.left - GAP - w, beside, at.left - GAP - w >= MARGIN],
    right: [at.right + GAP, beside, at.right + GAP + w <= width - MARGIN],
    below: [along, at.bottom + GAP, at.bottom + GAP + h <= height - MARGIN],
    above: [along, at.top - GAP - h, at.top - GAP - h >= MARGIN],
  };
};

const put = () => {
  if (!open() || !target()) return;
  const at = area();
  guide.classList.toggle('away', at.width === 0);   // on another tab
  const [left, top] = places(at)[side ?? 'below'];
  Object.assign(card.style, { left: `${left}px`, top: `${top}px` });
  Object.assign(ring.style, { left: `${at.left - 4}px`, top: `${at.top - 4}px`, width: `${at.width + 8}px`, height: `${at.height + 8}px` });
};

// The first side with room; without any, below, where it may reach out of the window but covers nothing it talks about.
const choose = () => {
  if (!open() || !target()) return;
  const found = places(area());
  side = steps[current].dataset.sides.split(' ').find((name) => found[name][2]) ?? null;
  put();
};

const inView = () => {
  const { top, bottom } = area();
  return top >= 0 && bottom <= document.documentElement.clientHeight;
};

const reach = () => {
  choose();
  if (side && inView()) return;
  target().scrollIntoView({ block: 'center' });
  choose();
  if (side) return;
  window.scrollBy(0, area().top - 2 * MARGIN);
  choose();
};

const resized = new ResizeObserver(() => requestAnimationFrame(choose));

// ---- steps ------------------------------------------------------------------------------------------------------------

const show = (step) => {
  current = step;
  steps.forEach((node, i) => { node.hidden = i !== step; });
  find('.guide-count').textContent = `${step + 1} of ${steps.length}`;
  back.style.visibility = step === 0 ? 'hidden' : '';
  next.textContent = step === steps.length - 1 ? 'Done' : 'Next';
  if (watched) resized.unobserve(watched);
  watched = target();
  if (watched) resized.observe(watched);
};

// Who starts a text at the first step has done what it asks for; a short one may be done before anything is heard of it.
const state = () => document.querySelector('.stream-state');
const started = new MutationObserver((changes) => {
  if (current === 0 && changes.some(({ oldValue }) => oldValue !== state().dataset.run)) go(1);
});

const start = (byHand) => {
  guide.hidden = false;
  if (state()) started.observe(state(), { attributes: true, attributeFilter: ['data-run'], attributeOldValue: true });
  opener.setAttribute('aria-expanded', 'true');
  resized.observe(document.body);
  show(0);
  if (!byHand) return choose();   // nobody asked for it: the page does not scroll, focus stays where it is
  reach();
  next.focus({ preventScroll: true });
};

const close = () => {
  if (!open()) return;
  const inside = guide.contains(document.activeElement);
  guide.hidden = true;
  opener.setAttribute('aria-expanded', 'false');
  resized.disconnect();
  started.disconnect();
  watched = null;
  remember();
  if (inside) opener.focus({ preventScroll: true });
};

const go = (step) => {
  if (step === steps.length) return close();
  show(step);
  reach();
  if (document.activeElement === back && step === 0) next.focus({ preventScroll: true });
};

next.addEventListener('click', () => go(current + 1));
back.addEventListener('click', () => go(current - 1));
find('.guide-close').addEventListener('click', close);
opener.addEventListener('click', () => {
  if (open()) return close();
  const tab = [...document.querySelectorAll('#tabs [role="tab"]')].find((node) => node.textContent.trim() === 'Playground');
  if (tab && tab.getAttribute('aria-selected') !== 'true') tab.click();
  requestAnimationFrame(() => requestAnimationFrame(() => start(true)));
});
document.addEventListener('keydown', (event) => {
  if (event.key === 'Escape' && element.isConnected && !event.defaultPrevented) close();
});
window.addEventListener('scroll', put, { capture: true, passive: true });
window.addEventListener('resize', () => requestAnimationFrame(choose));

// ---- first visit ------------------------------------------------------------------------------------------------------

if (!seen()) {
  const SIGNS = ['pointerdown', 'keydown', 'input'];
  let timer = null;
  const leave = () => {
    clearTimeout(timer);
    for (const sign of SIGNS) document.removeEventListener(sign, leave, true);
    document.removeEventListener('visibilitychange', wait);
  };
  const appear = () => {
    const idle = (state()?.dataset.state ?? 'idle') === 'idle';
    leave();
    if (idle && element.isConnected && !open()) start(false);
  };
  const wait = () => {
    clearTimeout(timer);
    if (!document.hidden) timer = setTimeout(() => (window.requestIdleCallback ?? setTimeout)(appear), IDLE_MS);
  };
  for (const sign of SIGNS) document.addEventListener(sign, leave, true);
  document.addEventListener('visibilitychange', wait);
  wait();
}
