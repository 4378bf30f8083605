// A prompt at many settings: the map beside the text, and the texts that map and slider go through. Every text is written by the
// token stream. A visitor finds recorded texts, without a map, which are gone once there is a text of the visitor's.
import { openChannel } from '../lib/channel.js';
import { dialAt, finder, listen, moveSlider, onSlider, perFrame, say } from '../lib/dom.js';
import { counted, percent } from '../lib/format.js';
import { placeNow } from '../slider/slider.js';
import { startMap } from './map.js';
import { Texts } from './texts.js';

const ENDS = { waiting: 'waiting for the models …', running: 'writing …', stopped: 'stopped; what is there stays', failed: 'failed' };
const DIALS = ['threshold', 'acceptance'];

// What a setting at the edge of the plane is called elsewhere.
const known = ({ threshold, acceptance }) => (threshold > 1 ? 'large model only' : threshold === 0 && acceptance === 0 ? 'small model only'
  : threshold === 0 && acceptance === 1 ? 'speculative decoding' : '');

const plain = (value) => Number(value.toFixed(7));   // no more digits than it has
const written = (place) => known(place) || `threshold ${plain(place.threshold)}, acceptance ${plain(place.acceptance)}`;

// Whoever comes by a link to a text or a prompt is to find that.
const isLinked = location.hash.length > 1 || new URLSearchParams(location.search).has('prompt');   // a refused link leaves the address

export const start = (gradio) => {
  const { element, props, trigger } = gradio, find = finder(element), texts = new Texts(), card = find('.sweep');
  const [cheapestButton, openButton] = ['.sweep-cheapest', '.sweep-open'].map(find);
  let scrubbing = false, asked = false, held = null, shown;
  let recorded = props.recorded && !isLinked ? JSON.parse(props.recorded) : null;

  const open = (on) => {
    card.hidden = !on;
    document.body.classList.toggle('mapped', on);
    document.dispatchEvent(new CustomEvent('citer-map-shown', { detail: on }));
  };

  // The sliders, and with them what is on the page, belong to the sweep again.
  const choose = () => {
    if (!scrubbing && !recorded) trigger('scrub');
    scrubbing = true;
  };

  const rowOf = () => {
    if (recorded) return Math.round((placeNow() * texts.last) / 100);   // the slider's positions are its texts
    return texts.rowAt(held ?? Object.fromEntries(DIALS.map((dial) => [dial, dialAt(dial)])));
  };

  const scrub = () => {
    if (!scrubbing || !texts.message) return;
    const row = rowOf();
    if (row === undefined) return;
    const place = held ?? Object.fromEntries(DIALS.map((dial) => [dial, dialAt(dial)]));
    const at = texts.place(row), complete = texts.isComplete(row), near = recorded || texts.isExact(row, place) ? '' : ', the nearest written';
    openButton.disabled = texts.isOn || !complete;
    shown = row;
    if (!recorded && !held) drawMap.point(row, place);
    say(find('.sweep-now'), complete ? [written(at), texts.isLlmText(row) && at.threshold <= 1 ? 'the large model’s own text' : ''].filter(Boolean).join(' · ') : 'still being written');
    const { prompt, said = '', verdicts = [] } = recorded?.recorded ?? {};
    const note = recorded ? `Recorded: ${known(at) || `threshold ${plain(at.threshold)}`}` : `${written(at)}${near}`;
    document.dispatchEvent(new CustomEvent('citer-text', { detail: { tokens: texts.textOf(row).tokens, complete, note, about: said, recorded: Boolean(recorded), prompt, verdicts,
      share: complete ? texts.share(row) : undefined, cost: complete ? texts.costs(row) : undefined, run: texts.message.run, row } }));
  };

  const setSliders = (place) => { for (const dial of DIALS) moveSlider(place[dial], dial); };

  const drawMap = startMap(element, texts, (place, released) => {
    choose();
    held = released ? null : place;
    if (released) setSliders(place);
    scrub();
  });

  const noteOf = ({ points, leaves, figures, state, note }) => (note || (state !== 'done'
    ? `${figures.filter(Boolean).length} of ${points.length || '…'} ${ENDS[state]}` : `${points.length} settings, ${counted(new Set(leaves).size, 'text')}`));

  const schedule = perFrame(() => {
    if (!texts.message) return;
    if (!recorded) {
      find('.sweep-note').setAttribute('aria-live', texts.isOn ? 'off' : 'polite');   // not every step of it is read out
      say(find('.sweep-note'), noteOf(texts.message));
      element.dataset.state = texts.message.state;
      find('.sweep-map').hidden = texts.message.points.length === 0;
      cheapestButton.disabled = texts.isOn || texts.cheapest === undefined;
      find('.sweep-go').disabled = texts.isOn;
      if (texts.message.points.length) drawMap.draw();
    }
    if (texts.message.points.length) scrub();
  });

  const sweep = () => {
    asked = true;   // the server may refuse it: until it begins, the sliders belong to the text that is there
    trigger('sweep');
  };
  listen(element, 'citer-map', () => {
    const on = card.hidden;
    open(on);
    if (on && (recorded || !texts.message)) sweep();
    else if (on) { choose(); schedule(); }
  });
  find('.sweep-go').addEventListener('click', sweep);
  find('.sweep-close').addEventListener('click', () => open(false));
  cheapestButton.addEventListener('click', () => {
    choose();
    setSliders(texts.place(texts.cheapest));
    scrub();
  });
  openButton.addEventListener('click', () => { if (shown !== undefined) trigger('open_text'); });
  for (const type of ['citer-dials', 'citer-text-wanted', 'citer-place']) listen(element, type, () => requestAnimationFrame(scrub));
  for (const dial of DIALS) onSlider(element, () => requestAnimationFrame(scrub), dial);
  listen(element, 'citer-cost', schedule);
  listen(element, 'citer-run', () => {   // another text is on the page
    scrubbing = false;
    if (recorded) recorded = texts.message = null;
  });

  const take = (message, fresh) => {
    texts.take(message);
    if (fresh) { shown = undefined; held = null; }
    schedule();
  };

  if (recorded) {
    scrubbing = true;
    take(recorded, true);
  }
  openChannel(gradio, (message, fresh) => {
    recorded = null;
    if (asked && fresh && message.n !== texts.message?.n) [asked, scrubbing] = [false, true];
    if (fresh && card.hidden && message.points.length) open(true);
    take(message, fresh);
  }).receive();
};
