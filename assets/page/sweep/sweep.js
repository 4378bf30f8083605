// A sweep in the browser: the prefix tree of one prompt's texts, along one dial as a strip and a chart or over both as a
// map, and the sliders that scrub through the texts. Every text is written by the token stream. A visitor finds a recorded one,
// which is gone once there is a text of the visitor's.
import { openChannel } from '../lib/channel.js';
import { dialAt, finder, listen, moveSlider, onSlider, onUnit, perFrame, say } from '../lib/dom.js';
import { counted, percent } from '../lib/format.js';
import { onTheme } from '../lib/plot.js';
import { startLine } from './line.js';
import { scaleOfRows } from '../points/scale.js';
import { startMap } from './map.js';
import { Texts } from './texts.js';

const ENDS = { waiting: 'waiting for the models …', running: 'writing …', stopped: 'stopped; what is there stays', failed: 'failed' };
const DIALS = ['threshold', 'acceptance'];

// What a setting at the edge of the plane is called elsewhere.
const known = ({ threshold, acceptance }) => (threshold > 1 ? 'LLM-only' : threshold === 0 && acceptance === 0 ? 'SLM-only'
  : threshold === 0 && acceptance === 1 ? 'speculative decoding' : '');

const plain = (value) => Number(value.toFixed(7));   // no more digits than it has
const written = ({ threshold, acceptance }) => `threshold ${plain(threshold)}, acceptance ${plain(acceptance)}`;

// Whoever comes by a link to a text or a prompt is to find that.
const isLinked = location.hash.length > 1 || new URLSearchParams(location.search).has('prompt');   // a refused link leaves the address

export const start = (gradio) => {
  const { element, props, trigger } = gradio, find = finder(element), texts = new Texts();
  const [line, map, cheapestButton, openButton, promptButton] = ['.sweep-line', '.sweep-map', '.sweep-cheapest', '.sweep-open', '.sweep-prompt'].map(find);
  let scrubbing = false, asked = false, held = null, shown, scale = null;
  let recorded = props.recorded && !isLinked ? JSON.parse(props.recorded) : null;
  let onPage = null;   // the run whose text is there

  const sliders = () => Object.fromEntries(DIALS.map((dial) => [dial, dialAt(dial)]));

  // The sliders, and with them what is on the page, belong to the sweep again.
  const choose = () => {
    if (!scrubbing && !recorded) trigger('scrub');
    scrubbing = true;
  };

  const headlineOf = (row) => {
    const { share, cost } = texts.percents(row);
    return texts.meter(row) ?? { share: percent(share / 100), relative: cost === null ? undefined : percent(cost / 100) };
  };

  // The track is spaced by what was swept of the threshold.
  const space = () => {
    if (texts.over !== 'acceptance') document.dispatchEvent(new CustomEvent('citer-scale', { detail: { text: scale } }));
  };

  const figuresOf = (row) => {
    if (!texts.isComplete(row)) return 'still being written';
    const { share, relative } = headlineOf(row), words = [`${share} LLM`];
    if (relative) words.push(`${relative} of LLM-only`);
    if (texts.isLlmText(row)) words.push('the LLM’s own text');
    return words.join(' · ');
  };

  // Where the server has a row's text; not of a sweep that was opened with another text.
  const sourceOf = (row) => (texts.message.beside ? { run: null, row: null } : { run: texts.message.run, row });

  const scrub = () => {
    if (!scrubbing || !texts.message) return;
    const place = held ?? sliders();
    const row = texts.rowAt(place);
    if (row === undefined) return;
    const exact = texts.isExact(row, place), at = exact ? place : texts.place(row), complete = texts.isComplete(row);
    say(find('.sweep-now b'), `${exact ? '' : 'nearest: '}${written(at)}`);
    say(find('.sweep-now span'), [known(at), figuresOf(row)].filter(Boolean).join(' · '));
    openButton.disabled = texts.isOn || !complete || Boolean(texts.message.beside);
    space();
    shown = row;
    if (texts.over === 'both' && !held) drawMap.point(row, place);
    const note = `${recorded ? 'Recorded' : 'Sweep'}: the text at ${written(at)}${exact ? '' : ', the nearest written'}`;
    const detail = { tokens: texts.textOf(row).tokens, complete, note, about: recorded?.recorded.said ?? '', figures: complete ? headlineOf(row) : {},
      recorded: Boolean(recorded), swept: texts.over, whole: !texts.isOn, ...sourceOf(row) };
    document.dispatchEvent(new CustomEvent('citer-text', { detail }));
  };

  const setSliders = (place) => {
    for (const dial of DIALS) moveSlider(place[dial], dial);
  };

  const drawMap = startMap(element, texts, (place, released) => {
    choose();
    held = released ? null : place;
    if (released) setSliders(place);
    scrub();
  });

  const noteOf = ({ points, leaves, figures, state, note }) => {
    if (note) return note;
    if (state !== 'done') return `${figures.filter(Boolean).length} of ${points.length || '…'} ${ENDS[state]}`;
    const found = counted(new Set(leaves).size, 'text');
    if (texts.over === 'both') return `${points.length} settings, ${found}`;
    const other = DIALS.find((dial) => dial !== texts.over);
    return `${texts.line.length} settings at ${other} ${plain(points[0][DIALS.indexOf(other)])}, ${found}`;
  };

  const schedule = perFrame(() => {
    if (!texts.message) return;
    find('.sweep-body').hidden = texts.message.points.length === 0;
    find('.sweep-note').setAttribute('aria-live', texts.isOn ? 'off' : 'polite');   // not every step of it is read out
    say(find('.sweep-note'), noteOf(texts.message));
    if (!recorded) element.dataset.state = texts.message.state;
    openButton.hidden = Boolean(recorded);
    promptButton.hidden = !recorded;
    if (!texts.message.points.length) return;
    line.hidden = texts.over === 'both';
    map.hidden = !line.hidden;
    cheapestButton.disabled = texts.isOn || texts.cheapest === undefined;
    (line.hidden ? drawMap.draw : drawLine)();
    scrub();
  });

  const drawLine = startLine(element, texts, { choose, plotly: props.plotly });

  find('.sweep-go').addEventListener('click', () => {
    asked = true;   // the server may refuse it: until it begins, the sliders belong to the text that is there
    trigger('sweep', { over: find('.sweep-over').value });
  });
  cheapestButton.addEventListener('click', () => {
    choose();
    setSliders(texts.place(texts.cheapest));
    scrub();
  });
  openButton.addEventListener('click', () => { if (shown !== undefined) trigger('open_text', { row: shown }); });
  promptButton.addEventListener('click', () => {
    const box = document.querySelector('#prompt textarea');
    box.value = recorded.recorded.prompt;
    box.dispatchEvent(new Event('input', { bubbles: true }));
    box.focus();
  });
  for (const type of ['citer-dials', 'citer-text-wanted']) listen(element, type, () => requestAnimationFrame(scrub));
  listen(element, 'citer-shown', ({ detail: { run } }) => { onPage = run; });
  for (const dial of DIALS) onSlider(element, () => {
    if (texts.message?.beside && texts.message.beside === onPage) choose();   // opened with the text that is there
    requestAnimationFrame(scrub);
  }, dial);
  onUnit(element, schedule);
  listen(element, 'citer-run', () => {   // another text is on the page
    scrubbing = false;
    if (recorded) forget();
  });
  onTheme(schedule);

  const take = (message, skip, fresh) => {
    texts.take(message, skip, fresh);
    if (fresh) { shown = undefined; held = scale = null; }
    if (message.points.length) scale ??= scaleOfRows([...new Set(message.points.map(([threshold]) => threshold))].sort((a, b) => a - b));
    schedule();
  };

  const forget = () => {
    recorded = texts.message = null;
    find('.sweep-body').hidden = true;
    say(find('.sweep-note'), '');
  };

  if (recorded) {
    scrubbing = true;
    take(recorded, 0, true);
  }
  openChannel(gradio, (message, skip, fresh) => {
    if (message.recorded && !recorded) return;   // another price for a text that is gone
    if (message.recorded) recorded = message;
    else if (recorded) forget();
    if (asked && fresh && !message.beside && message.n !== texts.message?.n) [asked, scrubbing] = [false, true];   // else the old one, at other prices
    take(message, skip, fresh);
  }).receive();
};
