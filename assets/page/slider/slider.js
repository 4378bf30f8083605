// The slider from the small model to the large one, the price of a token, and one line with the outcome. A position means one
// threshold; the thumb moves only under a hand. It moves the threshold's field, which is gradio's.
import { follow } from '../lib/channel.js';
import { dialAt, finder, listen, moveSlider, onSlider, perFrame, releaseSliders, say } from '../lib/dom.js';
import { counted, percent } from '../lib/format.js';
import { startCommit } from './commit.js';
import { choice, costOf, PRICE, ratioAt, stepAt } from './cost.js';
import { playOnce } from './play.js';
import { flipsOf, placeOf, stepTo } from './scale.js';

const FEW = 10;   // tokens: the numbers of fewer say nothing
const KEYS = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 };
const NONE = 'Drag: who writes how much';

let share = null;   // the slider

// Where it stands, from 0 (small model only) to 100.
export const placeNow = () => Number(share?.value ?? 50);

export const start = ({ element, props, trigger, watch }) => {
  const find = finder(element), cost = find('#cost'), outcome = find('.outcome'), more = find('.more-open');
  share = find('#balance');
  let scales = {}, policy = null;   // by policy
  let touched = false, held = false, kept = null;   // whether a hand has moved it, and is on it; the acceptance that waits at the small model's end
  let recorded = false, ratios = [];   // whether a recorded text is on the page; prices of the pair
  let shown = null, preview = '', scores = [];   // what is said of the text, of what a hand is changing, and where it flips

  const scale = () => scales[policy] ?? Object.values(scales)[0] ?? null;
  startCommit({ element, trigger }, () => (scale() ? -1 : placeNow()));

  const words = () => {
    if (preview) return preview;
    if (!shown || shown.tokens < FEW) return NONE;
    const part = shown.share === 1 && dialAt('threshold') > 1 ? 1 : costOf(shown.cost);   // there neither the small model nor the router is run
    return [`${percent(shown.share)} by the large model`, ...(part === null ? [] : [`${percent(part)} of the large model’s cost alone`])].join(' · ');
  };
  const draw = perFrame(() => {
    say(outcome, words());
    outcome.classList.toggle('changes', preview !== '');
    share.style.setProperty('--filled', share.value / 100);
    say(find('.ends .key-slm'), placeNow() === 0 && dialAt('acceptance') > 0 ? 'small model, corrected' : 'small model only');
    share.setAttribute('aria-valuetext', `${share.value} % of the way to the large model. ${words()}`);
    const { ratio, ratios, unit } = choice;
    say(find('.cost-says b'), ratio ? `${Number(ratio.toPrecision(ratio < 10 ? 2 : 3))}` : '–');
    cost.setAttribute('aria-valuetext', `${find('.cost-says b').textContent} tokens`);
    element.querySelectorAll('.cost-units input').forEach((radio, i) => {
      radio.disabled = ratios.length > 0 && !ratios[i];
      radio.parentElement.classList.toggle('moved', i === unit && ratio !== ratios[i]);
      if (radio.disabled) radio.parentElement.title = 'Not known: passes were not timed, since the machine was busy';
    });
  });

  // The setting of the position: at the small model's end nothing is corrected, and beyond it what was set before is.
  const apply = () => {
    const place = placeNow(), acceptance = dialAt('acceptance');
    if (place === 0 && acceptance > 0) moveSlider(0, 'acceptance', kept = acceptance);
    else if (place > 0 && kept !== null) { moveSlider(kept, 'acceptance'); kept = null; }
    if (scale()) moveSlider(scale()[place]);
    document.dispatchEvent(new CustomEvent('citer-place'));
    draw();
  };
  const put = (place) => { share.value = place; draw(); };
  let played = null;   // where it ends, while it plays
  const play = (place) => {
    const isPlaying = playOnce(100, place, (at, isOver) => {
      if (isOver) played = null;
      outcome.ariaLive = isOver ? null : 'off';   // not every step of it is read out
      if (share.value === String(at)) return;
      put(at);
      document.dispatchEvent(new CustomEvent('citer-place'));
    });
    if (isPlaying) played = place;
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
  // A number that was typed, or the dial of a text that was brought back.
  const followDial = (threshold) => {
    const at = scale();
    if (at && !held && played === null && at[placeNow()] !== threshold) {
      put(Math.round(placeOf(at, threshold)));
      document.dispatchEvent(new CustomEvent('citer-placed'));
    }
  };
  onSlider(element, draw, 'acceptance');
  onSlider(element, (threshold) => { if (document.activeElement?.closest?.('#threshold')) followDial(threshold); });
  listen(element, 'citer-dials', ({ detail }) => {
    const other = policy !== null && detail.policy !== policy;
    policy = detail.policy;
    if (other && touched) { apply(); releaseSliders(); } else if (detail.threshold === dialAt('threshold')) followDial(detail.threshold);   // else the dial has moved on
  });

  cost.addEventListener('input', () => { choice.ratio = ratioAt(Number(cost.value)); tellCost(); });
  // The prices of the models that wrote the text; a price that a hand has set stays.
  const takeRatios = () => {
    const { ratio, unit } = choice, own = ratio === null || ratio === choice.ratios[unit], prices = [...document.querySelectorAll('#prices input')].map(({ value }) => Number(value));
    const all = [...ratios, prices[3] / prices[1] || null];
    Object.assign(choice, { ratios: all, prices, ratio: own ? all[unit] ?? ratio : ratio });
    if (choice.ratio) cost.value = stepAt(choice.ratio);
  };
  const tellCost = () => { document.dispatchEvent(new CustomEvent('citer-cost')); draw(); };
  const setUnit = (unit) => {
    Object.assign(choice, { unit, ratio: choice.ratios[unit] ?? choice.ratio });
    if (choice.ratio) cost.value = stepAt(choice.ratio);
    tellCost();
  };
  element.addEventListener('click', ({ target }) => { if (target.name === 'unit') setUnit(Number(target.value)); });   // also back to its own price

  listen(element, 'input', ({ target }) => {
    if (!target.closest?.('#prices')) return;
    takeRatios();
    element.querySelectorAll('.cost-units input')[PRICE].checked = true;
    setUnit(PRICE);
  });

  listen(element, 'citer-outcome', ({ detail }) => {
    shown = detail;
    if (detail.over || !held) preview = '';
    if (recorded && !detail.recorded) { recorded = false; takeRatios(); }
    recorded = Boolean(detail.recorded);
    scores = detail.over ? flipsOf(detail.texts ?? []) : [];
    draw();
  });
  listen(element, 'citer-preview', ({ detail: { flipped, unread, first, over } }) => {
    preview = !over ? (held ? `what comes next is written so${flipped ? ` · ${counted(flipped, 'token')} before it would change hands` : ''}` : '') : unread ? `the large model is to read ${counted(unread, 'token')}`
      : flipped ? `${counted(flipped, 'token')} ${flipped === 1 ? 'changes' : 'change'} hands, the first is token ${first + 1}` : '';
    draw();
  });

  more.addEventListener('click', () => {
    const open = document.body.classList.toggle('more');
    more.setAttribute('aria-expanded', open);
    if (open) document.querySelector('#more').scrollIntoView({ block: 'nearest' });
  });
  find('.map-open').addEventListener('click', () => document.dispatchEvent(new CustomEvent('citer-map')));
  listen(element, 'citer-map-shown', ({ detail }) => find('.map-open').setAttribute('aria-expanded', detail));

  follow({ props, watch }, (message) => {
    if (!message) return;
    ratios = message.ratios;
    if (!recorded || !choice.ratio) takeRatios();
    if (message.place !== undefined && !touched) {
      share.value = message.place;
      document.dispatchEvent(new CustomEvent('citer-placed'));
      play(message.place);
    }
    const first = !scale() && message.scales;
    scales = message.scales ?? scales;
    if (first) {
      const { threshold: [stood, own], acceptance: [before, accepted] } = message.starts;
      if (dialAt('acceptance') === before && before !== accepted) moveSlider(accepted, 'acceptance');
      if (!touched && !recorded) put(Math.round(placeOf(scale(), dialAt('threshold') === stood ? own : dialAt('threshold'))));
      if (touched || (own !== stood && dialAt('threshold') === stood)) moveSlider(scale()[played ?? placeNow()]);
    }
    draw();
  });
  draw();
};
