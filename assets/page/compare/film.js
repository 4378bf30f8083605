// The race as a film: it is painted on a canvas, and the browser records it while it plays.
import { make, save } from '../lib/dom.js';
import { brushOf, coloursOf, LINE, linesOf, MONO, paintLine, SANS, SIZE } from '../lib/paint.js';
import { counted, percent, seconds } from '../lib/format.js';
import { LLM, llmShare } from '../lib/threshold.js';
import { AUTHOR, SECONDS, TEXT } from './column.js';

const WIDTH = 1280, HEIGHT = 720, EDGE = 28, GAP = 20, TOP = 142;   // pixels
const LINES = 17, MOST_LINES = 400;              // lines of a text: on one picture, and in the whole film
const RATE = 20, BITS = 4_000_000, HOLD = 1.5;   // pictures and bits a second; seconds for which the end is shown
const SHORTEST = 4, LONGEST = 15;                // seconds of the film; the race is played faster or slower to fit
const TYPES = ['video/webm;codecs=vp9', 'video/webm;codecs=vp8', 'video/webm'];

const typeOf = () => (window.MediaRecorder && HTMLCanvasElement.prototype.captureStream ? TYPES.find((type) => MediaRecorder.isTypeSupported(type)) : undefined);

const painter = (canvas, texts, end, element) => {
  const pen = canvas.getContext('2d', { alpha: false }), { font, write, fill } = brushOf(pen);
  const colours = coloursOf(element), { ink, soft, ground, paper } = colours, wide = (WIDTH - 2 * EDGE - 2 * GAP) / 3, inside = wide - 24;
  font(SIZE, MONO);
  const columns = texts.map(({ title, tokens }) => ({ title, tokens, lines: linesOf(pen, tokens.map((token) => [token[TEXT], token[AUTHOR]]), MOST_LINES, inside) }));

  const paintColumn = ({ title, tokens, lines }, left, time) => {
    const shown = tokens.filter((token) => token[SECONDS] <= time).length, done = shown === tokens.length && tokens.length > 0;
    font(17, SANS, 600);
    write(title, left, 88, ink, wide);
    font(14, SANS);
    const took = done ? ` · done in ${seconds(tokens.at(-1)[SECONDS])}` : '';
    write(`${counted(shown, 'token')} · ${percent(llmShare(tokens.slice(0, shown).map((token) => token[AUTHOR])))} by the large model${took}`, left, 110, soft, wide);
    fill(paper, left, 122, wide, LINE * LINES + 24);
    const last = lines.findLastIndex((line) => line.some(([, index]) => index < shown));
    const begun = lines.slice(0, last + 1).map((line) => line.filter(([, index]) => index < shown));
    font(SIZE, MONO);
    begun.slice(-LINES).forEach((line, i) => paintLine(pen, colours, line, left + 12, TOP + 12 + LINE * i, (index) => tokens[index][AUTHOR] === LLM));
  };

  return (time) => {
    fill(ground, 0, 0, WIDTH, HEIGHT);
    font(22, SANS, 700);
    write(document.title, EDGE, 46, ink);
    font(15, SANS);
    pen.textAlign = 'right';
    write(`${seconds(Math.min(time, end))} of ${seconds(end)}, modelled from measured passes`, WIDTH - EDGE, 46, soft);
    pen.textAlign = 'left';
    columns.forEach((column, i) => paintColumn(column, EDGE + i * (wide + GAP), time));
    const y = HEIGHT - 34, long = WIDTH - 2 * EDGE;
    fill(colours.line, EDGE, y, long, 6);
    fill(ink, EDGE, y, long * Math.min(1, time / end), 6);
  };
};

// The button starts the recording, and ends it when pressed again. `texts()` gives [{ title, tokens }]. Returns a function that
// enables the button or disables it.
export const startFilm = (button, element, texts) => {
  const type = typeOf(), name = button.textContent;
  let recorder = null, isComplete = false;

  const record = () => {
    const raced = texts(), end = Math.max(...raced.map(({ tokens }) => tokens.at(-1)?.[SECONDS] ?? 0));
    const length = Math.min(LONGEST, Math.max(SHORTEST, end)), canvas = Object.assign(make('canvas'), { width: WIDTH, height: HEIGHT });
    const paint = painter(canvas, raced, end, element), parts = [], begun = performance.now();
    paint(0);
    recorder = new MediaRecorder(canvas.captureStream(RATE), { mimeType: type, videoBitsPerSecond: BITS });
    isComplete = false;
    const tick = () => {
      const past = (performance.now() - begun) / 1000;
      paint(past >= length ? end : (end * past) / length);
      button.textContent = `Recording, ${Math.max(0, Math.ceil(length + HOLD - past))} s …`;
      if (past < length + HOLD && element.isConnected) return;
      isComplete = element.isConnected;
      recorder.stop();
    };
    const timer = setInterval(tick, 1000 / RATE);   // unlike frames, a timer goes on while another tab is shown
    recorder.addEventListener('dataavailable', ({ data }) => parts.push(data));
    recorder.addEventListener('stop', () => {
      clearInterval(timer);
      recorder.stream.getTracks().forEach((track) => track.stop());
      recorder = null;
      button.textContent = name;
      if (isComplete) save('citer-race', 'webm', 'video/webm', new Blob(parts));
    });
    recorder.start();
  };

  button.hidden = !type;
  button.addEventListener('click', () => (recorder ? recorder.stop() : record()));
  return (isReady) => { button.disabled = !isReady && !recorder; };
};
