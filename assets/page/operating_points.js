// Says under the slider what its threshold gave when the router was measured, and offers thresholds by what they give.
// Every text is written with textContent: a router's file may be a stranger's. Runs as gradio's js_on_load.
const [PLACE, SHARE, ACCURACY, LOW, HIGH] = [0, 1, 2, 3, 4];   // of a point of the curve; its place is its threshold
const find = (name) => element.querySelector(name);
let shown = null, dials = null, buttons = [];

const whole = (share) => (share > 0 && share < 0.005 ? '<1' : share < 1 && share > 0.995 ? '>99' : `${Math.round(100 * share)}`);

// As `Curve.at` in the engine: straight lines between measured thresholds, the ends beyond them.
const at = (curve, threshold) => {
  if (threshold > 1) return curve[curve.length - 1];
  const after = curve.findIndex((point) => point[PLACE] >= threshold);
  if (after <= 0) return curve[0];
  const [a, b] = [curve[after - 1], curve[after]], part = (threshold - a[PLACE]) / (b[PLACE] - a[PLACE]);
  return a.map((value, i) => value * (1 - part) + b[i] * part);
};

const say = (name, text) => {
  const node = find(`[data-points="${name}"]`);
  if (node.textContent !== text) node.textContent = text;
};

const draw = () => {
  const useful = shown !== null && dials.policy === 'router';
  find('.points').hidden = !useful;
  if (!useful) return;
  const now = at(shown.curve, dials.threshold);
  say('share', `≈ ${whole(now[SHARE])}\u202f%`);
  say('accuracy', `${whole(now[ACCURACY])}\u202f%`);
  find('.points-now').title = `95\u202f% interval ${whole(now[LOW])} to ${whole(now[HIGH])}\u202f% right. ${shown.made}`;
  for (const button of buttons) button.setAttribute('aria-pressed', Number(button.value) === dials.threshold);
};

// The slider is moved as a hand moves it, so that everything that follows a hand follows this too.
const choose = (threshold) => {
  const slider = document.querySelector('#threshold input[type="range"]');
  slider.value = threshold;
  slider.dispatchEvent(new Event('input', { bubbles: true }));
};

const offer = (place, choices) => {
  const made = choices.map(([text, explanation, threshold]) => {
    const button = document.createElement('button');
    Object.assign(button, { type: 'button', textContent: text, title: explanation, value: threshold });
    button.addEventListener('click', () => choose(threshold));
    return button;
  });
  place.querySelectorAll('button').forEach((button) => button.remove());
  place.append(...made);
  place.hidden = made.length === 0;
  return made;
};

const receive = () => {
  shown = props.value ? JSON.parse(props.value) : null;
  if (!shown) return draw();
  dials ??= { threshold: shown.threshold, policy: shown.policy };   // later news come from the dials themselves
  say('asked', shown.asked);
  say('others', shown.others);
  buttons = [...offer(find('.points-shares'), shown.shares), ...offer(find('.points-best'), shown.cheapest)];
  draw();
};

const turn = (changed) => {
  if (!Number.isFinite(changed.threshold)) return;   // the number's box is being typed in
  dials = { ...dials, ...changed };
  draw();
};
// A hand on the slider is seen at once; the other event also comes when the server moved it, or another policy scores.
document.addEventListener('input', (event) => {
  if (element.isConnected && dials && event.target.closest?.('#threshold')) turn({ threshold: Number.parseFloat(event.target.value) });
});
document.addEventListener('citer-dials', (event) => { if (element.isConnected) turn(event.detail); });
watch('value', receive);
receive();
