// Three handles on one operating point: threshold, LLM share, cost weight λ. Says what a threshold gave when the policy that
// scores was measured, and moves the threshold by what it gives. The threshold is the only one that anything else listens to; the
// other two follow it along the measured curve. Every text is written with textContent: a router's file may be a stranger's.
import { follow } from '../lib/channel.js';
import { atShare, atThreshold, HIGH, LOW, measuredIn, QUALITY, relative, SHARE, THRESHOLD, UNITS, valuesAt } from '../lib/curve.js';
import { dialAt, finder, listen, makeButton, moveSlider, onSlider, onUnit, releaseSliders, say, slider, unitChosen } from '../lib/dom.js';
import { wholeNumber, wholePercent } from '../lib/format.js';
import { scaleOfCurve } from './scale.js';

const UNIT_NAMES = { bytes: 'bytes moved', flops: 'FLOPs', seconds: 'seconds' };
const QUALITIES = { right: ['right', 'right answers'], same: ['of the LLM’s text', 'the LLM’s own text'] };   // after a percentage, and by itself
const unitOf = (curve) => (measuredIn(curve, unitChosen()) ? unitChosen() : 'bytes');   // the page's, where it was measured

// A task as the server sends it, with its points in the order of lib/curve.js.
const ordered = ([threshold, share, accuracy, low, high, ...costs]) => [threshold, accuracy, low, high, share, ...costs];
const taskOf = (task) => ({ ...task, curves: task.curves.map((one) => ({ ...one, curve: one.curve.map(ordered) })) });
const SAME_ACCEPTANCE = 0.02;   // acceptances so near have one curve
// The first of those with the least value; undefined of none.
const leastBy = (value, all) => all.reduce((best, one) => (value(one) < value(best) ? one : best), all[0]);

const at = (curve, threshold) => valuesAt(curve, atThreshold(curve, threshold));

// A share may fall between two steps of the slider; the one that gives more nearly what was asked for.
const stepForShare = (curve, wanted) => {
  const place = atShare(curve, wanted), step = Number(slider().step);
  if (place === curve.length - 1) return slider().max;
  const off = (n) => Math.abs(at(curve, n * step)[SHARE] - wanted), down = Math.floor(valuesAt(curve, place)[THRESHOLD] / step);
  return step * (off(down + 1) < off(down) ? down + 1 : down);
};

// ---- λ: its handle stands at 2·i for the i-th best point, at odd places between two of them and beyond the ends ------
// A best point is [threshold, lowest λ, highest λ]; they come from λ = 0 upwards.

// Two thresholds are the same where no figure on the page tells them apart: a router's own may be rounded.
const same = (a, b, unit) => [SHARE, QUALITY, UNITS[unit]].every((column) => Math.abs(a[column] - b[column]) < 0.005);

const standOf = (curve, best, threshold) => {
  const now = at(curve, threshold), exact = best.findIndex(([place]) => place === threshold);
  const here = exact >= 0 ? exact : best.findIndex(([place]) => same(at(curve, place), now, unitOf(curve)));
  if (here >= 0) return 2 * here;
  // From λ = 0 upwards thresholds fall, unless a cheap threshold lies above a dear one; then the nearest one counts.
  const below = best.findIndex(([place]) => place < threshold);
  return 2 * (below < 0 ? best.length : below) - 1;
};

const figure = (value) => String(value >= 10 ? Math.round(value) : Number(value.toPrecision(2)));   // 0.15, 3.5, 120
// For which λ the threshold is best: in short, and as a sentence for who cannot see the handle.
const lambda = (best, stand) => {
  if (stand < 0 || stand > 2 * best.length - 2) return ['never the best', 'another threshold is better for every λ'];
  const [, low, high] = best[stand >> 1];
  if (stand % 2) return ['between best points', `λ near ${figure(high)}, between two best points`];
  const text = best.length === 1 ? 'any' : high === null ? `above ${figure(low)}` : `${figure(low)} to ${figure(high)}`;
  return [text, `best for λ ${text}`];
};

const setHandle = (handle, options, text) => {
  for (const [name, value] of Object.entries(options)) if (handle[name] !== String(value)) handle[name] = value;
  handle.setAttribute('aria-valuetext', text);
  const [low, high] = [Number(handle.min), Number(handle.max)];
  handle.style.setProperty('--filled', high > low ? (Number(handle.value) - low) / (high - low) : 0);
};

export const start = ({ element, props, watch }) => {
  const find = finder(element), sayAt = (name, text) => say(find(`[data-points="${name}"]`), text);
  const share = find('#share-handle'), weight = find('#weight-handle'), task = find('#measured-task'), choices = find('.points-best');
  let measured = [], tasks = [];   // all, and those of the policy that scores
  let chosen = null, shown = null;   // the task, and that of its curves whose acceptance is nearest
  let dials = null;   // threshold, acceptance and policy
  let asked = null;   // the LLM share that a hand asked for, and the slider's step nearest to it
  let spacing = null;   // the curve by which the track is spaced

  const off = ({ acceptance }) => Math.abs(acceptance - dials.acceptance);
  const nearest = (curves) => leastBy(off, curves);
  // Where one acceptance was measured and the dial stands at another, nothing is known.
  const unknown = (curves) => curves.length === 1 && off(curves[0]) > SAME_ACCEPTANCE;

  // What the measured point nearest to the dials cost on a task, as a multiple of LLM-only.
  const costOn = ({ name, curves }) => {
    const { acceptance, curve } = nearest(curves), unit = unitOf(curve), away = (point) => Math.abs(point[THRESHOLD] - dials.threshold);
    const point = leastBy(away, curve);
    return { task: name, acceptance, threshold: point[THRESHOLD], times: relative(curve, point, unit), unit: UNIT_NAMES[unit] };
  };
  // The timed setting nearest to the dials, unless the LLM alone is nearer; undefined where none was timed at this acceptance.
  const timeOn = ({ timed }) => {
    const away = ({ threshold }) => Math.abs(threshold - dials.threshold);
    const one = leastBy(away, timed.filter((each) => off(each) <= SAME_ACCEPTANCE && away(each) < Math.abs(1 - dials.threshold)));
    return one && { task: one.on, ...one, unit: UNIT_NAMES.seconds, timed: true };
  };
  // For the track, before there is a text.
  const tellScale = () => {
    const curve = (chosen && nearest(chosen.curves).curve) ?? null;
    if (curve === spacing) return;
    spacing = curve;
    const measured = curve && scaleOfCurve(curve.map((point) => [Math.min(point[THRESHOLD], 1), point[SHARE]]), Number(slider().max));
    document.dispatchEvent(new CustomEvent('citer-scale', { detail: { measured } }));
  };
  // For the line that warns: of every task, the one that is shown first.
  const tellCosts = () => {
    const every = chosen ? [chosen, ...tasks.filter((one) => one !== chosen)] : [];
    const costs = (one) => {
      const time = timeOn(one), modelled = time && unitChosen() === 'seconds';
      return [unknown(one.curves) || modelled ? null : costOn(one), time].filter(Boolean);
    };
    const detail = every.flatMap((one) => costs(one).map((cost) => ({ ...cost, shown: one === chosen })));
    document.dispatchEvent(new CustomEvent('citer-measured', { detail }));
  };

  const drawShare = (now) => {
    const kept = asked?.threshold === dials.threshold;   // stays where the hand put it; the figure says what it gave
    setHandle(share, { value: kept ? asked.share : Math.round(100 * now[SHARE]) }, `about ${wholeNumber(now[SHARE])} % LLM tokens`);
    sayAt('share', `≈ ${wholePercent(now[SHARE])}`);
  };

  const drawWeight = () => {
    const unit = unitOf(shown.curve), asked = unitChosen(), best = shown.best[unit], last = 2 * best.length - 2;
    const stand = standOf(shown.curve, best, dials.threshold), [text, sentence] = lambda(best, stand);
    // Steps of two go from best point to best point; away from them, a step of one leads to the nearest on either side.
    const range = { min: Math.min(0, stand), max: Math.max(last, stand), step: stand % 2 ? 1 : 2 };
    weight.disabled = last === 0 && stand === 0;
    setHandle(weight, { ...range, value: stand }, `${sentence}, cost in ${UNIT_NAMES[unit]}`);
    sayAt('weight', text);
    sayAt('unit', unit === asked ? `cost: ${UNIT_NAMES[unit]}` : `bytes, not ${asked}`);
    const why = asked in UNITS ? `What was measured in ${asked} cannot be compared` : `No ${asked} was measured`;
    sayAt('price', unit === asked ? '' : `${why}: λ weighs ${UNIT_NAMES[unit]} instead.`);
  };

  const draw = () => {
    const card = find('.points');
    card.hidden = !chosen;
    tellCosts();
    tellScale();
    if (!chosen) return;
    shown = nearest(chosen.curves);
    const { acceptance, curve, on } = shown, now = at(curve, dials.threshold), unit = unitOf(curve), far = off(shown) > SAME_ACCEPTANCE;
    const only = unknown(chosen.curves), where = `at acceptance ${acceptance}${only ? ' only' : ''}${far ? `, not ${dials.acceptance},` : ''} `;
    card.classList.toggle('unknown', only);
    find('.points-now').classList.toggle('far', far);
    sayAt('on', `Measured ${far || acceptance ? where : ''}${on}`);
    const [after, itself] = QUALITIES[chosen.quality];
    sayAt('accuracy', wholePercent(now[QUALITY]));
    sayAt('quality', after);
    for (const name of ['gain', 'worth']) sayAt(name, itself);
    sayAt('cost', curve.at(-1)[UNITS[unit]] > 0 ? `cost ${wholePercent(relative(curve, now, unit))} of LLM-only` : '');
    sayAt('interval', `95 % interval here: ${wholeNumber(now[LOW])} to ${wholePercent(now[HIGH])} ${after}.`);
    drawShare(now);
    drawWeight();
    for (const button of choices.children) button.setAttribute('aria-pressed', button.value === `${dials.threshold}/${dials.acceptance}`);
  };

  const choose = (threshold, byShare = null) => {
    slider().value = threshold;
    asked = byShare === null ? null : { share: byShare, threshold: Number(slider().value) };
    moveSlider(threshold);
  };

  share.addEventListener('input', () => choose(stepForShare(shown.curve, Number(share.value) / 100), share.value));
  weight.addEventListener('input', () => {
    const best = shown.best[unitOf(shown.curve)], i = Math.round(Number(weight.value) / 2);
    choose(best[Math.max(0, Math.min(best.length - 1, i))][THRESHOLD]);
  });

  // Another task's curve is read; what is in force does not change with it.
  const read = () => {
    chosen = tasks[task.selectedIndex] ?? null;
    asked = null;
    if (!chosen) return draw();
    choices.replaceChildren(...chosen.cheapest.map(([text, title, threshold, acceptance]) => {
      const button = Object.assign(makeButton('', text), { title, value: `${threshold}/${acceptance}` });
      button.addEventListener('click', () => {
        if (acceptance !== dials.acceptance) moveSlider(acceptance, 'acceptance');
        choose(threshold);
        releaseSliders();
      });
      return button;
    }));
    choices.hidden = chosen.cheapest.length === 0;
    draw();
  };
  task.addEventListener('change', read);

  // The tasks on which the policy that scores was measured; the one that was read stays, if it is among them.
  const offer = () => {
    const before = task.value;
    tasks = measured.filter(({ policy }) => policy === dials?.policy);
    task.replaceChildren(...tasks.map(({ name }) => new Option(name)));
    task.selectedIndex = Math.max(0, tasks.findIndex(({ name }) => name === before));
    find('.points-tasks').hidden = tasks.length < 2;
    read();
  };

  const turn = (changed) => {
    if (![changed.threshold ?? 0, changed.acceptance ?? 0].every(Number.isFinite)) return;   // a number's box is being typed in
    const scored = dials?.policy;
    dials = { ...dials, ...changed };
    if (dials.policy === scored) draw();
    else offer();
  };
  // A hand on the slider is seen at once; the other event also comes when the server moved it, or another policy scores. It
  // may come late: where the slider has moved on, only the policy is news.
  onSlider(element, (threshold) => { if (dials) turn({ threshold }); });
  onSlider(element, (acceptance) => { if (dials) turn({ acceptance }); }, 'acceptance');
  listen(element, 'citer-dials', ({ detail: { threshold, acceptance, policy } }) => {
    const late = dials && threshold !== Number(slider().value);
    turn({ threshold: late ? dials.threshold : threshold, acceptance: late ? dials.acceptance : acceptance, policy });
  });
  listen(element, 'citer-measured-wanted', () => {
    tellCosts();
    spacing = null;
    tellScale();
  });
  onUnit(element, draw);
  follow({ props, watch }, (message) => {
    measured = message?.tasks.map(taskOf) ?? [];
    if (message) dials ??= { threshold: message.threshold, acceptance: dialAt('acceptance'), policy: message.policy };   // later news come from the dials themselves
    offer();
  });
};
