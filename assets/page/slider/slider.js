// The slider from the small model to the large one, the price of a token, and the line with the outcome. The slider moves gradio's
// threshold field: each position is one threshold.
import { follow } from '../lib/channel.js';
import { announce, dialAt, finder, listen, moveSlider, onSlider, perFrame, releaseSliders, say } from '../lib/dom.js';
import { counted, percent } from '../lib/format.js';
import { startCommit } from './commit.js';
import { choice, costOf, PRICE, ratioAt, stepAt } from './cost.js';
import { playOnce } from './play.js';
import { flipsOf, placeOf, stepTo } from './scale.js';

const FEW = 10;   // tokens; while a text is written, figures of fewer mean nothing
const KEYS = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 };
const NONE = 'Drag: who writes how much', UNTIMED = 'Not known: this machine’s passes are not timed yet';

let share = null;   // the slider's element

export const placeNow = () => Number(share?.value ?? 50);

export const start = ({ element, props, trigger, watch }) => {
  const find = finder(element), cost = find('#cost'), outcome = find('.outcome'), more = find('.more-open');
  const units = [...element.querySelectorAll('.cost-units label')].map((label) => [label, label.title]);
  share = find('#balance');
  let scales = {}, policy = null;           // thresholds of the positions, by policy; the chosen policy
  let touched = false, held = false;        // whether the visitor has moved the slider, and is moving it
  let paused = null;                        // the acceptance that comes back when the slider leaves the small model's end
  let recorded = false, ratios = [];        // whether a recorded text is on the page; prices of the loaded pair
  let shown = null, preview = '';           // outcome of the text; what the moved dials would change
  let scores = [];                          // where a decision of the text flips
  let target = null;                        // final position while the slider plays

  const scale = () => scales[policy] ?? Object.values(scales)[0] ?? null;
  startCommit({ element, trigger }, () => (scale() ? -1 : placeNow()));

  const words = () => {
    if (preview) return preview;
    if (!shown || (shown.tokens < FEW && !shown.over)) return NONE;
    const part = shown.share === 1 && dialAt('threshold') > 1 ? 1 : costOf(shown.cost);   // at this end only the large model runs
    return [`${percent(shown.share)} by the large model`, ...(part === null ? [] : [`${percent(part)} of the large model’s cost`])].join(' · ');
  };
  const draw = perFrame(() => {
    say(outcome, words());
    outcome.classList.toggle('changes', preview !== '');
    share.style.setProperty('--filled', share.value / 100);
    say(find('.ends .key-slm'), placeNow() === 0 && dialAt('acceptance') > 0 ? 'small model, corrected' : 'small model only');
    share.setAttribute('aria-valuetext', `${share.value} % of the way to the large model. ${words()}`);
    const { ratio, ratios, unit } = choice;
    say(find('.cost-says b'), ratio ? counted(Number(ratio.toPrecision(ratio < 10 ? 2 : 3)), 'small one') : '–');
    cost.setAttribute('aria-valuetext', find('.cost-says b').textContent);
    units.forEach(([label, title], i) => {
      label.control.disabled = ratios.length > 0 && !ratios[i];
      label.classList.toggle('moved', i === unit && ratio !== ratios[i]);
      label.title = label.control.disabled && i !== PRICE ? UNTIMED : title;
    });
  });

  const put = (place) => {
    share.value = place;
    announce('citer-place');
    draw();
  };
  // Sets the dials of a position. At the small model's end the acceptance is 0, and beyond it what it was before.
  const apply = () => {
    const place = placeNow(), acceptance = dialAt('acceptance');
    if (place === 0 && acceptance > 0) { moveSlider(0, 'acceptance'); paused = acceptance; }
    else if (place > 0 && paused !== null) { moveSlider(paused, 'acceptance'); paused = null; }
    if (scale()) moveSlider(scale()[place]);
    put(place);
  };
  const play = (place) => {
    const isPlaying = playOnce(100, place, (at, isOver) => {
      if (isOver) target = null;
      outcome.ariaLive = isOver ? null : 'off';   // or every step would be read out
      if (share.value !== String(at)) put(at);
    });
    if (isPlaying) target = place;
  };

  share.addEventListener('pointerdown', () => { held = true; });
  for (const end of ['pointerup', 'pointercancel']) listen(element, end, () => { held = false; });
  share.addEventListener('input', () => { touched = true; apply(); });
  share.addEventListener('keydown', (event) => {
    const by = KEYS[event.key], at = scale();
    if (!by || !at || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    share.value = stepTo(at, placeNow(), by, scores);
    touched = true;
    apply();
  });
  // The slider follows a typed number, and the setting of a text from the history.
  const followDial = (threshold) => {
    const at = scale();
    if (at && !held && target === null && at[placeNow()] !== threshold) put(Math.round(placeOf(at, threshold)));
  };
  onSlider(element, draw, 'acceptance');
  onSlider(element, (threshold) => { if (document.activeElement?.closest?.('#threshold')) followDial(threshold); });
  listen(element, 'citer-dials', ({ detail }) => {
    const isNew = policy !== null && detail.policy !== policy, isLate = detail.threshold !== dialAt('threshold');
    policy = detail.policy;
    if (isNew && touched) { apply(); releaseSliders(); } else if (!isLate && (touched || !recorded)) followDial(detail.threshold);
  });
  listen(element, 'citer-used', () => {   // Tune has set the dials
    touched = true;
    followDial(dialAt('threshold'));
  });

  cost.addEventListener('input', () => { choice.ratio = ratioAt(Number(cost.value)); tellCost(); });
  // Takes the prices of the pair that wrote the text. A price that the visitor has set stays.
  const takeRatios = () => {
    const { ratio, unit } = choice, own = ratio === null || ratio === choice.ratios[unit], prices = [...document.querySelectorAll('#prices input')].map(({ value }) => Number(value));
    const all = [...ratios, prices[3] / prices[1] || null];
    Object.assign(choice, { ratios: all, prices, ratio: own ? all[unit] ?? ratio : ratio });
    if (choice.ratio) cost.value = stepAt(choice.ratio);
  };
  const tellCost = () => { announce('citer-cost'); draw(); };
  const setUnit = (unit) => {
    Object.assign(choice, { unit, ratio: choice.ratios[unit] ?? choice.ratio });
    if (choice.ratio) cost.value = stepAt(choice.ratio);
    tellCost();
  };
  element.addEventListener('click', ({ target }) => { if (target.name === 'unit') setUnit(Number(target.value)); });   // a click on the chosen unit brings its own price back

  listen(element, 'input', ({ target }) => {
    if (!target.closest?.('#prices')) return;
    takeRatios();
    element.querySelectorAll('.cost-units input')[PRICE].checked = true;
    setUnit(PRICE);
  });

  listen(element, 'citer-outcome', ({ detail }) => {
    shown = detail;
    if (detail.over || !held) preview = '';
    if (recorded && !detail.recorded) { recorded = false; takeRatios(); followDial(dialAt('threshold')); }   // another pair's slider may start elsewhere
    recorded = Boolean(detail.recorded);
    scores = detail.over ? flipsOf(detail.texts ?? []) : [];
    draw();
  });
  listen(element, 'citer-preview', ({ detail: { flipped, unread, first, over } }) => {
    preview = !over ? (held ? 'applies to the tokens that follow' : '') : unread ? `the large model would read ${counted(unread, 'token')}`
      : flipped ? `${counted(flipped, 'token')} would be the other model’s, the first is token ${first + 1}` : '';
    draw();
  });

  // More and the map take each other's place beside the text.
  const openMore = (on) => {
    document.body.classList.toggle('more', on);
    more.setAttribute('aria-expanded', on);
  };
  // What opens beside the text moves the slider down. The page scrolls as far, so that the button stays under the pointer.
  const staying = (act) => ({ currentTarget }) => {
    const topNow = () => currentTarget.getBoundingClientRect().top, top = topNow();
    act();
    for (let from = NaN; scrollY !== from && Math.abs(topNow() - top) > 1;) {   // several times, where the slider sticks to the bottom of the window
      from = scrollY;
      scrollBy({ top: topNow() - top, behavior: 'instant' });
    }
  };
  more.addEventListener('click', staying(() => {
    const on = !document.body.classList.contains('more');
    if (on && document.body.classList.contains('mapped')) announce('citer-map');
    openMore(on);
  }));
  more.addEventListener('click', () => {   // on a telephone it is taller than the window
    const panel = document.querySelector('#more');
    if (panel.getBoundingClientRect().top < 0) panel.scrollIntoView();
  });
  find('.map-open').addEventListener('click', staying(() => announce('citer-map')));
  listen(element, 'citer-map-shown', ({ detail }) => {
    find('.map-open').setAttribute('aria-expanded', detail);
    if (detail) openMore(false);
  });

  follow({ props, watch }, (message) => {
    ratios = message.ratios;
    if (!recorded || !choice.ratio) takeRatios();
    if (message.place !== undefined && !touched) {
      put(message.place);
      play(message.place);
    }
    const first = !scale() && message.scales;
    scales = message.scales ?? scales;
    if (first) {
      const { threshold: [oldThreshold, ownThreshold], acceptance: [oldAcceptance, ownAcceptance] } = message.starts, isMoved = dialAt('threshold') !== oldThreshold;
      if (dialAt('acceptance') === oldAcceptance && oldAcceptance !== ownAcceptance) moveSlider(ownAcceptance, 'acceptance');
      if (!touched && !recorded) put(Math.round(placeOf(scale(), isMoved ? dialAt('threshold') : ownThreshold)));
      if (touched) moveSlider(scale()[placeNow()]);
      else if (ownThreshold !== oldThreshold && !isMoved) moveSlider(ownThreshold);
    }
    draw();
  });
  draw();
};
