// Three handles on one operating point: threshold, LLM share, cost weight λ. Says what a threshold gave when the router was
// measured, and moves the threshold by what it gives. The threshold is the only one that anything else listens to; the
// other two follow it along the measured curve. Every text is written with textContent: a router's file may be a
// stranger's. Runs as gradio's js_on_load.
const [PLACE, SHARE, ACCURACY, LOW, HIGH, COST] = [0, 1, 2, 3, 4, 5];   // of a point of the curve; its place is its threshold
const UNIT_NAMES = { bytes: 'bytes moved', flops: 'FLOPs', seconds: 'seconds' };
const share = find('#share-handle'), weight = find('#weight-handle'), task = find('#measured-task');
let measured = null, shown = null, dials = null, buttons = [];   // all tasks; the one that is shown
let asked = null;   // the LLM share that a hand asked for, and the slider's step nearest to it

// ---- the curve: as `Curve.at` and `Curve.for_share` in the engine -----------------------------------------------------

const between = (a, b, part) => a.map((value, i) => value * (1 - part) + b[i] * part);

const at = (curve, threshold) => {
  if (threshold > 1) return curve[curve.length - 1];
  const after = curve.findIndex((point) => point[PLACE] >= threshold);
  if (after <= 0) return curve[0];
  const [a, b] = [curve[after - 1], curve[after]];
  return between(a, b, (threshold - a[PLACE]) / (b[PLACE] - a[PLACE]));
};

const forShare = (curve, wanted) => {
  const last = curve.length - 1, found = curve.findIndex((point) => point[SHARE] >= wanted);
  if (found === 0) return 0;
  const after = found < 0 ? last : found, [a, b] = [curve[after - 1], curve[after]];
  if (b[SHARE] <= wanted) return after === last ? Infinity : b[PLACE];
  return between(a, b, (wanted - a[SHARE]) / (b[SHARE] - a[SHARE]))[PLACE];
};

// A share may fall between two steps of the slider; the one that gives more nearly what was asked for.
const stepForShare = (curve, wanted) => {
  const threshold = forShare(curve, wanted), step = Number(slider().step);
  if (threshold > 1) return slider().max;
  const off = (n) => Math.abs(at(curve, n * step)[SHARE] - wanted), down = Math.floor(threshold / step);
  return step * (off(down + 1) < off(down) ? down + 1 : down);
};

// ---- λ: its handle stands at 2·i for the i-th best point, at odd places between two of them and beyond the ends ------
// A best point is [threshold, lowest λ, highest λ]; they come from λ = 0 upwards.
const chosenUnit = () => document.querySelector('#unit input:checked')?.value ?? 'bytes';
const measuredUnit = () => (shown.units.includes(chosenUnit()) ? chosenUnit() : 'bytes');

// Two thresholds are the same where no figure on the page tells them apart: a router's own may be rounded.
const same = (a, b) => [SHARE, ACCURACY, COST + shown.units.indexOf(measuredUnit())].every((i) => Math.abs(a[i] - b[i]) < 0.005);

const placeOf = (best, threshold) => {
  const now = at(shown.curve, threshold), exact = best.findIndex((point) => point[PLACE] === threshold);
  const here = exact >= 0 ? exact : best.findIndex((point) => same(at(shown.curve, point[PLACE]), now));
  if (here >= 0) return 2 * here;
  // From λ = 0 upwards thresholds fall, unless a cheap threshold lies above a dear one; then the nearest one counts.
  const below = best.findIndex((point) => point[PLACE] < threshold);
  return 2 * (below < 0 ? best.length : below) - 1;
};

const figure = (value) => String(value >= 10 ? Math.round(value) : Number(value.toPrecision(2)));   // 0.15, 3.5, 120
// For which λ the threshold is best: in short, and as a sentence for who cannot see the handle.
const lambda = (best, place) => {
  if (place < 0 || place > 2 * best.length - 2) return ['best for no λ', 'best for no λ'];
  const [, low, high] = best[place >> 1];
  if (place % 2) return ['between best points', `λ near ${figure(high)}, between two best points`];
  const text = best.length === 1 ? 'any' : high === null ? `above ${figure(low)}` : `${figure(low)} to ${figure(high)}`;
  return [text, `best for λ ${text}`];
};

// ---- drawing ----------------------------------------------------------------------------------------------------------

const whole = (part) => (part > 0 && part < 0.005 ? '<1' : part < 1 && part > 0.995 ? '>99' : `${Math.round(100 * part)}`);
const percent = (part) => `${whole(part)}\u202f%`;

const say = (name, text) => {
  const node = find(`[data-points="${name}"]`);
  if (node.textContent !== text) node.textContent = text;
};

const stand = (handle, options, text) => {
  for (const [name, value] of Object.entries(options)) if (handle[name] !== String(value)) handle[name] = value;
  handle.setAttribute('aria-valuetext', text);
  const [low, high] = [Number(handle.min), Number(handle.max)];
  handle.style.setProperty('--filled', high > low ? (Number(handle.value) - low) / (high - low) : 0);
};

const drawShare = (now) => {
  const kept = asked?.threshold === dials.threshold;   // stays where the hand put it; the figure says what it gave
  stand(share, { value: kept ? asked.share : Math.round(100 * now[SHARE]) }, `about ${whole(now[SHARE])} % LLM tokens`);
  say('share', `≈ ${percent(now[SHARE])}`);
};

const drawWeight = () => {
  const unit = measuredUnit(), best = shown.best[unit], place = placeOf(best, dials.threshold), last = 2 * best.length - 2;
  const [text, sentence] = lambda(best, place);
  // Steps of two go from best point to best point; away from them, a step of one leads to the nearest on either side.
  const range = { min: Math.min(0, place), max: Math.max(last, place), step: place % 2 ? 1 : 2 };
  weight.disabled = last === 0 && place === 0;
  stand(weight, { ...range, value: place }, `${sentence}, cost in ${UNIT_NAMES[unit]}`);
  say('weight', text);
  say('unit', unit === chosenUnit() ? `cost: ${UNIT_NAMES[unit]}` : 'bytes, not price');
  say('price', unit === chosenUnit() ? '' : `No ${chosenUnit()} was measured: λ weighs ${UNIT_NAMES[unit]} instead.`);
};

const draw = () => {
  const useful = shown !== null && dials.policy === 'router';
  find('.points').hidden = !useful;
  if (!useful) return;
  const now = at(shown.curve, dials.threshold), column = COST + shown.units.indexOf(measuredUnit());
  say('accuracy', percent(now[ACCURACY]));
  say('cost', shown.curve.at(-1)[column] > 0 ? `cost ${percent(now[column])} of LLM-only` : '');
  say('interval', `95 % interval here: ${whole(now[LOW])} to ${percent(now[HIGH])} right.`);
  drawShare(now);
  drawWeight();
  for (const button of buttons) button.setAttribute('aria-pressed', Number(button.value) === dials.threshold);
};

// ---- hands ------------------------------------------------------------------------------------------------------------

// The slider is moved as a hand moves it, so that everything that follows a hand follows this too.
const choose = (threshold, byShare = null) => {
  slider().value = threshold;
  asked = byShare === null ? null : { share: byShare, threshold: Number(slider().value) };
  slider().dispatchEvent(new Event('input', { bubbles: true }));
};

share.addEventListener('input', () => choose(stepForShare(shown.curve, Number(share.value) / 100), share.value));
weight.addEventListener('input', () => {
  const best = shown.best[measuredUnit()], i = Math.round(Number(weight.value) / 2);
  choose(best[Math.max(0, Math.min(best.length - 1, i))][PLACE]);
});

const offer = (place, choices) => {
  const made = choices.map(([text, explanation, threshold]) => {
    const button = document.createElement('button');
    Object.assign(button, { type: 'button', textContent: text, title: explanation, value: threshold });
    button.addEventListener('click', () => choose(threshold));
    return button;
  });
  place.replaceChildren(...made);
  place.hidden = made.length === 0;
  return made;
};

// The task whose curve is read, of several that were measured; what is in force does not change with it.
const read = () => {
  shown = { ...measured.tasks[task.selectedIndex], units: measured.units };
  asked = null;
  say('on', shown.on);
  buttons = offer(find('.points-best'), shown.cheapest);
  draw();
};
task.addEventListener('change', read);

const receive = () => {
  measured = props.value ? JSON.parse(props.value) : null;
  shown = null;
  if (!measured) return draw();
  dials ??= { threshold: measured.threshold, policy: measured.policy };   // later news come from the dials themselves
  const before = task.value;
  task.replaceChildren(...measured.tasks.map(({ name }) => new Option(name)));
  task.selectedIndex = Math.max(0, measured.tasks.findIndex(({ name }) => name === before));
  find('.points-tasks').hidden = measured.tasks.length < 2;
  read();
};

const turn = (changed) => {
  if (!Number.isFinite(changed.threshold)) return;   // the number's box is being typed in
  dials = { ...dials, ...changed };
  draw();
};
// A hand on the slider is seen at once; the other event also comes when the server moved it, or another policy scores. It
// may come late: where the slider has moved on, only the policy is news.
document.addEventListener('input', (event) => {
  if (!element.isConnected || !dials) return;
  if (event.target.closest?.('#threshold')) turn({ threshold: Number.parseFloat(event.target.value) });
  if (event.target.closest?.('#unit') && shown) requestAnimationFrame(draw);   // gradio unchecks the old one only then
});
document.addEventListener('citer-dials', (event) => {
  if (!element.isConnected) return;
  const { threshold, policy } = event.detail, late = dials && threshold !== Number(slider().value);
  turn({ threshold: late ? dials.threshold : threshold, policy });
});
watch('value', receive);
receive();
