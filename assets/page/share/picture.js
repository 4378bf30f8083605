// The coloured text with its headline as a picture, in the theme's colours.
import { make } from '../lib/dom.js';
import { brushOf, coloursOf, LINE, linesOf, MONO, paintLine, SANS, SIZE } from '../lib/paint.js';
import { LLM } from '../lib/threshold.js';

const WIDTH = 1080, SCALE = 2, EDGE = 40, INSIDE = 28;   // pixels; the picture has SCALE times as many
const MOST_LINES = 100, PROMPT_LINES = 3, MOST_ASKED = 1000;   // so that the canvas stays within every browser's limit

// Returns the canvas, and how many of the tokens are on it. `tokens` are [text, author].
export const drawPicture = ({ title, headline, prompt, about, home, tokens }, element) => {
  const canvas = make('canvas'), pen = canvas.getContext('2d'), colours = coloursOf(element), { ink, soft, tint } = colours;
  const wide = WIDTH - 2 * EDGE - 2 * INSIDE, { font, write, fill } = brushOf(pen);

  font(15, SANS);
  const asked = linesOf(pen, [[prompt.slice(0, MOST_ASKED), 0]], PROMPT_LINES, wide), question = asked.slice(0, PROMPT_LINES);
  if (asked.length > PROMPT_LINES) question.at(-1).push([' …', 0]);
  font(SIZE, MONO);
  const all = linesOf(pen, tokens, MOST_LINES, wide), lines = all.slice(0, MOST_LINES), cut = all.length > lines.length;
  const shown = cut ? (lines.flat().at(-1)?.[1] ?? 0) + 1 : tokens.length;
  const top = 150 + 22 * question.length + 20, below = top + LINE * lines.length, height = below + 62;

  canvas.width = WIDTH * SCALE;
  canvas.height = height * SCALE;
  pen.scale(SCALE, SCALE);

  fill(colours.ground, 0, 0, WIDTH, height);
  font(20, SANS, 700);
  write(title, EDGE, 50, ink);
  font(18, SANS, 600);
  write(headline, EDGE, 90, ink);
  font(13, SANS);
  let x = WIDTH - EDGE;
  for (const [name, kind] of [['large model', 'llm'], ['small model', 'slm']]) {
    x -= pen.measureText(name).width;
    write(name, x, 50, soft);
    x -= 22;
    fill(tint[kind], x, 38, 16, 15);
    if (kind === 'llm') fill(colours.underline, x, 51, 16, 2);
    x -= 18;
  }
  pen.beginPath();
  pen.roundRect(EDGE, 112, WIDTH - 2 * EDGE, below - 112, 12);
  pen.fillStyle = colours.paper;
  pen.fill();
  pen.strokeStyle = colours.line;
  pen.stroke();

  font(15, SANS);
  question.forEach((line, i) => write(line.map(([letter]) => letter).join(''), EDGE + INSIDE, 146 + 22 * i, soft));
  font(SIZE, MONO);
  const isLlm = (index) => tokens[index][1] === LLM;
  lines.forEach((line, i) => paintLine(pen, colours, line, EDGE + INSIDE, top + LINE * i, isLlm));
  font(13, SANS);
  const rest = cut ? `${(tokens.length - shown).toLocaleString('en')} more tokens are not in the picture · ` : '';
  write(`${rest}${about}`, EDGE, height - 24, soft, WIDTH - 2 * EDGE - 20 - pen.measureText(home).width);
  pen.textAlign = 'right';
  write(home, WIDTH - EDGE, height - 24, soft);
  return { canvas, shown };
};

export const toBlob = (canvas) => new Promise((resolve, reject) => {
  canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Error('the browser made no picture'))), 'image/png');
});
