// The threshold's track. It is spaced by the scores of the text that is on the page, or by a sweep's rows; before there is a
// text, by what was measured of the router. It moves the number beside it, which is gradio's, and follows it.
import { shortThreshold } from '../lib/curve.js';
import { dialAt, finder, listen, make, moveSlider, onSlider, perFrame, say, slider } from '../lib/dom.js';
import { below, even, placeAt, stopAt, stopBeside } from './scale.js';

const STEPS = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, PageUp: 10, PageDown: -10, Home: -Infinity, End: Infinity };
const MOST = 120;   // ticks that a track of this width can tell apart

let scale = null;

// The stops below and above a threshold; null at the ends.
export const stopsBeside = (threshold) => [-1, 1].map((by) => {
  if (!scale) return null;   // this script has not begun
  const stop = stopBeside(scale, threshold, by);
  return (stop - threshold) * by > 0 && placeAt(scale, stop) !== placeAt(scale, threshold) ? stop : null;
});

const ticksOf = ({ stops }) => {
  const [, end] = stops.at(-1), every = Math.ceil(stops.length / MOST);
  return stops.filter((_, i) => i % every === 0 || i === stops.length - 1).map(([, place]) => {
    const tick = make('i');
    tick.style.left = `${100 * place / end}%`;
    return tick;
  });
};

const wordsAt = (threshold) => (
  `${scale.scores ? `${below(scale, threshold)} of ${scale.scores.length} tokens score` : 'score'} below it → LLM`);

export const start = ({ element }) => {
  const find = finder(element), track = find('input'), isBox = (node) => node.matches?.('#threshold input[type="number"]');
  let text = null, measured = null;   // scales
  let drawn = null, held = false;

  const draw = () => {
    if (!held || !scale) scale = text ?? measured ?? even(Number(slider().max));   // it stays under a hand
    const threshold = dialAt('threshold');
    if (scale !== drawn) ticks.replaceChildren(...ticksOf(drawn = scale));
    track.value = placeAt(scale, threshold);
    track.style.setProperty('--filled', track.value);
    say(find('.track-says'), wordsAt(threshold));
    track.setAttribute('aria-valuetext', `${shortThreshold(threshold)}: ${wordsAt(threshold)}`);
  };
  const ticks = find('.track-ticks'), drawSoon = perFrame(draw);

  const take = (event) => {
    const { key, ctrlKey, altKey, metaKey, target } = event, inBox = isBox(target);
    if (!(key in STEPS) || ctrlKey || altKey || metaKey || (inBox && !['ArrowUp', 'ArrowDown'].includes(key))) return;
    event.preventDefault();
    const stop = stopBeside(scale, dialAt('threshold'), STEPS[key]);
    if (!inBox) return moveSlider(stop);
    target.value = stop;   // its own steps are too small to see
    target.dispatchEvent(new Event('input', { bubbles: true }));
  };

  track.addEventListener('pointerdown', () => { held = true; });
  for (const end of ['pointerup', 'pointercancel']) listen(element, end, () => { held = false; drawSoon(); });
  track.addEventListener('input', () => moveSlider(stopAt(scale, Number(track.value))));
  track.addEventListener('keydown', take);
  listen(element, 'keydown', (event) => { if (isBox(event.target)) take(event); });
  listen(element, 'citer-scale', ({ detail }) => {
    ({ text = text, measured = measured } = detail);
    draw();
  });
  onSlider(element, drawSoon);
  listen(element, 'citer-dials', drawSoon);
  draw();
  document.dispatchEvent(new CustomEvent('citer-measured-wanted'));   // it may have been said before anything listened here
};
