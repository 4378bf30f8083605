// Four steps that point at text, threshold, cost and prompt, beside what they talk about, or in its empty part. Not modal:
// nothing outside the card is covered against clicks, nothing moves when it goes. It shows itself once, to a visitor who
// has done nothing for a while; whoever is at work already is left alone.
import { finder, listen } from '../lib/dom.js';

const KEY = 'citer-guide', IDLE_MS = 2000, GAP = 16, MARGIN = 8, RING = 8;

const seen = () => { try { return localStorage.getItem(KEY) !== null; } catch { return false; } };
const remember = () => { try { localStorage.setItem(KEY, 'seen'); } catch { /* private windows forget it */ } };
const clamp = (value, size, whole) => Math.max(MARGIN, Math.min(value, whole - size - MARGIN));

export const start = ({ element }) => {
  const find = finder(element);
  const opener = find('.guide-open'), guide = find('.guide'), card = find('.guide-card'), ring = find('.guide-ring');
  const back = find('.guide-back'), next = find('.guide-next'), steps = [...element.querySelectorAll('.guide-step')];
  let current = 0, side = null;   // null: there is no room on any

  const targets = () => [...document.querySelectorAll(steps[current].dataset.target)];

  // Around all that the step talks about.
  const area = () => {
    const boxes = targets().map((node) => node.getBoundingClientRect());
    const [left, top] = ['left', 'top'].map((edge) => Math.min(...boxes.map((box) => box[edge])));
    const [right, bottom] = ['right', 'bottom'].map((edge) => Math.max(...boxes.map((box) => box[edge])));
    return new DOMRect(left, top, right - left, bottom - top);
  };

  // What stands in the box that the step talks about first: below it the box may be empty.
  const contents = () => {
    const range = document.createRange();
    range.selectNodeContents(targets()[0]);
    return range.getBoundingClientRect();
  };

  // Per side of an area, and below what stands within it, where the card's corner goes, and whether there is room.
  const places = (at) => {
    const { clientWidth: width, clientHeight: height } = document.documentElement, { offsetWidth: w, offsetHeight: h } = card;
    const beside = clamp(at.top, h, height), along = clamp(at.left, w, width);
    const box = targets()[0].getBoundingClientRect(), inside = Math.max(box.top, contents().bottom) + MARGIN;
    return {
      within: [box.right - GAP - w, inside, box.width >= w + 2 * GAP && inside + h <= Math.min(box.bottom, height - MARGIN)],
      left: [at.left - GAP - w, beside, at.left - GAP - w >= MARGIN],
      right: [at.right + GAP, beside, at.right + GAP + w <= width - MARGIN],
      below: [along, at.bottom + GAP, at.bottom + GAP + h <= height - MARGIN],
      above: [along, at.top - GAP - h, at.top - GAP - h >= MARGIN],
    };
  };

  // On the first side with room, or on the same as before; where there is no room, below: there it may reach out of the
  // window but covers nothing it talks about.
  const put = (anew) => {
    if (guide.hidden || targets().length === 0) return;
    const at = area(), all = places(at);
    if (anew) side = steps[current].dataset.sides.split(' ').find((name) => all[name][2]) ?? null;
    const [left, top] = all[side ?? 'below'];
    guide.classList.toggle('away', at.width === 0);   // on another tab
    Object.assign(card.style, { left: `${left}px`, top: `${top}px` });
    const [x, y] = [at.left - RING, at.top - RING];
    Object.assign(ring.style, { left: `${x}px`, top: `${y}px`, width: `${at.width + 2 * RING}px`, height: `${at.height + 2 * RING}px` });
  };

  const reach = () => {
    put(true);
    const { top, bottom } = area();
    if (side && top >= 0 && bottom <= document.documentElement.clientHeight) return;
    targets()[0].scrollIntoView({ block: 'center' });
    put(true);
    if (side) return;
    window.scrollBy(0, area().top - 2 * MARGIN);
    put(true);
  };

  const putSoon = () => requestAnimationFrame(() => put(true));
  const resized = new ResizeObserver(putSoon), written = new MutationObserver(putSoon);

  const stop = () => { resized.disconnect(); written.disconnect(); };

  const show = (step) => {
    current = step;
    steps.forEach((node, i) => { node.hidden = i !== step; });
    find('.guide-count').textContent = `${step + 1} of ${steps.length}`;
    back.style.visibility = step === 0 ? 'hidden' : '';
    next.textContent = step === steps.length - 1 ? 'Done' : 'Next';
    stop();
    for (const node of [document.body, ...targets()]) resized.observe(node);
    if (targets()[0]) written.observe(targets()[0], { childList: true, subtree: true });   // a text grows within its box
  };

  // Who starts a text at the last step has done what it asks for; a short one may be done before anything is heard of it.
  const state = () => document.querySelector('.stream-state');
  const started = new MutationObserver((changes) => {
    if (current === steps.length - 1 && changes.some(({ oldValue }) => oldValue !== state().dataset.run)) close();
  });

  const open = (byHand) => {
    guide.hidden = false;
    opener.setAttribute('aria-expanded', 'true');
    if (state()) started.observe(state(), { attributes: true, attributeFilter: ['data-run'], attributeOldValue: true });
    show(0);
    if (!byHand) return put(true);   // nobody asked for it: the page does not scroll, focus stays where it is
    reach();
    next.focus({ preventScroll: true });
  };

  const close = () => {
    if (guide.hidden) return;
    const inside = guide.contains(document.activeElement);
    guide.hidden = true;
    opener.setAttribute('aria-expanded', 'false');
    stop();
    started.disconnect();
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
    if (!guide.hidden) return close();
    const tab = [...document.querySelectorAll('#tabs [role="tab"]')].find((node) => node.textContent.trim() === 'Playground');
    if (tab && tab.getAttribute('aria-selected') !== 'true') tab.click();
    requestAnimationFrame(() => requestAnimationFrame(() => open(true)));
  });
  listen(element, 'keydown', ({ key, defaultPrevented }) => { if (key === 'Escape' && !defaultPrevented) close(); });
  window.addEventListener('scroll', () => put(false), { capture: true, passive: true });
  window.addEventListener('resize', putSoon);

  if (!seen()) {
    const busy = new AbortController(), { signal } = busy;
    let timer = null;
    const appear = () => {
      const idle = !signal.aborted && !state()?.dataset.run;   // a recorded text is nobody's run
      busy.abort();
      if (idle && element.isConnected && guide.hidden) open(false);
    };
    const wait = () => {
      clearTimeout(timer);
      if (!document.hidden) timer = setTimeout(() => (window.requestIdleCallback ?? setTimeout)(appear), IDLE_MS);
    };
    for (const sign of ['pointerdown', 'keydown', 'input']) document.addEventListener(sign, () => busy.abort(), { signal, capture: true });
    document.addEventListener('visibilitychange', wait, { signal });
    wait();
  }
};
