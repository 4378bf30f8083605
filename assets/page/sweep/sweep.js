// A prompt at many settings, as a map beside the text. Picking a setting moves the sliders there and opens its text.
import { isOver, openChannel } from '../lib/channel.js';
import { announce, dialAt, finder, listen, moveSlider, onSlider, perFrame, say } from '../lib/dom.js';
import { counted, thresholdWords } from '../lib/format.js';
import { costOf } from '../slider/cost.js';
import { startMap } from './map.js';

const ENDS = { waiting: 'waiting for the models …', running: 'writing …', stopped: 'stopped; what is there stays', failed: 'failed' };
const DIALS = ['threshold', 'acceptance'], OWN = 'the same words as the large model alone';

const nameOf = (threshold, acceptance) => (threshold > 1 ? 'large model only' : threshold === 0 && acceptance === 0 ? 'small model only'
  : threshold === 0 && acceptance === 1 ? 'speculative decoding' : '');
const plain = (value) => Number(value.toFixed(7));
const written = ([threshold, acceptance]) => nameOf(threshold, acceptance) || `threshold ${thresholdWords(threshold)}, acceptance ${plain(acceptance)}`;

export const start = (gradio) => {
  const { element, trigger } = gradio, find = finder(element), card = find('.sweep');
  let message = null, isClosed = false;   // the newest one; whether the visitor has closed the map

  const open = (on) => {
    card.hidden = isClosed = !on;
    document.body.classList.toggle('mapped', on);
    announce('citer-map-shown', on);
  };

  const costAt = (row) => (message.figures[row] ? costOf(message.figures[row][0]) : null);
  const isOwn = (row) => Boolean(message.figures[row]) && message.figures[row][1] === message.figures.at(-1)?.[1];
  const verdictAt = (row) => ({ true: '✓', false: '✗' })[message.figures[row]?.[2]] ?? '';

  const pick = (row, place, released) => {
    DIALS.forEach((dial, i) => moveSlider(place[i], dial));
    if (!released) return;
    announce('citer-opened');
    trigger('open_text', { row });
  };
  const map = startMap(element, { costAt, isOwn, verdictAt, pick });

  const sayNow = () => {
    const dials = DIALS.map(dialAt), row = map.point(dials), point = message.points[row];
    const isThere = point[0] > 1 ? dials[0] > 1 : point.every((value, i) => plain(value) === plain(dials[i]));
    const words = [`${isThere ? '' : 'nearest: '}${written(point)}`, ...(isOwn(row) && point[0] <= 1 ? [OWN] : [])];
    say(find('.sweep-now'), message.figures[row] ? words.join(' · ') : 'still being written');
  };
  const noteOf = ({ points, figures, state, note, prompt }) => note || `${state === 'done' ? `${counted(points.length, 'setting')} gave`
    : `${figures.filter(Boolean).length} of ${points.length || '…'} ${ENDS[state]},`} ${counted(new Set(figures.filter(Boolean).map(([, text]) => text)).size, 'different text')} · \u2068${prompt}\u2069`;

  const draw = perFrame(() => {
    if (!message) return;
    const isOn = !isOver(message.state);
    find('.sweep-note').setAttribute('aria-live', isOn ? 'off' : 'polite');   // or every step would be read out
    say(find('.sweep-note'), noteOf(message));
    element.dataset.state = message.state;
    find('.sweep-map').hidden = message.points.length === 0;
    find('.sweep-go').disabled = isOn;
    if (!message.points.length) return;
    map.draw(message.points);
    sayNow();
  });

  listen(element, 'citer-map', () => {
    open(card.hidden);
    if (!card.hidden && !message) trigger('sweep');
  });
  find('.sweep-go').addEventListener('click', () => trigger('sweep'));
  find('.sweep-close').addEventListener('click', () => open(false));
  for (const type of ['citer-dials', 'citer-cost']) listen(element, type, draw);
  for (const dial of DIALS) onSlider(element, draw, dial);

  openChannel(gradio, (news, fresh) => {
    message = news;
    if (fresh && card.hidden && !isClosed && news.points.length) open(true);
    draw();
  }).receive();
};
