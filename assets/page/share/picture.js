// The coloured text with its headline as a picture, drawn by the browser in the theme's colours. Model text is drawn, never
// made markup.
import { visible } from '../lib/format.js';
import { LLM } from '../lib/threshold.js';

const WIDTH = 1080, SCALE = 2, EDGE = 40, INSIDE = 28;   // pixels of the page, of which the picture has SCALE each
const LINE = 29, SIZE = 16, MOST_LINES = 100, PROMPT_LINES = 3, MOST_ASKED = 1000;   // so that no browser's bound on a canvas is met
const MONO = 'ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace', SANS = 'system-ui, -apple-system, "Segoe UI", Roboto, sans-serif';

const letters = (text) => (Intl.Segmenter ? [...new Intl.Segmenter().segment(text)].map(({ segment }) => segment) : [...text]);

// A text's letters, each with the number of its token, in lines that fit, and one more than `most` where there are more;
// broken at spaces where there is one.
const linesOf = (tokens, most, wide, width) => {
  const lines = [[]];
  let filled = 0, space = -1;
  const start = (line) => {
    lines.push(line);
    filled = line.reduce((sum, [letter]) => sum + width(letter), 0);
    space = -1;
  };
  for (const [index, [text, author]] of tokens.entries()) {
    if (lines.length > most) break;
    for (const letter of letters(visible(text).replaceAll('\r', '').replaceAll('\t', '    '))) {
      if (letter === '\n') {
        if (author === LLM) lines.at(-1).push(['↵', index]);   // as the page marks a line break of the LLM's
        start([]);
        continue;
      }
      if (filled + width(letter) > wide && letter !== ' ') start(space >= 0 ? lines.at(-1).splice(space + 1) : []);
      const line = lines.at(-1);
      line.push([letter, index]);
      filled += width(letter);
      if (letter === ' ') space = line.length - 1;
    }
  }
  return lines;
};

// Neighbours of one token drawn in one piece.
const piecesOf = (line) => line.reduce((pieces, [letter, index]) => {
  if (pieces.at(-1)?.index === index) pieces.at(-1).text += letter;
  else pieces.push({ text: letter, index });
  return pieces;
}, []);

// What is in the picture: { title, headline: [[figure, words]], prompt, about, home, tokens: [[text, author]] }. Returns
// the canvas, and how many tokens of all are on it.
export const drawPicture = ({ title, headline, prompt, about, home, tokens }, element) => {
  const canvas = document.createElement('canvas'), pen = canvas.getContext('2d'), style = getComputedStyle(element);
  const colour = (name) => style.getPropertyValue(name).trim(), [ink, soft] = [colour('--body-text-color'), colour('--body-text-color-subdued')];
  const known = new Map(), wide = WIDTH - 2 * EDGE - 2 * INSIDE;
  const width = (letter) => {
    if (!known.has(letter)) known.set(letter, pen.measureText(letter).width);
    return known.get(letter);
  };
  const font = (size, family, weight = 400) => { pen.font = `${weight} ${size}px ${family}`; known.clear(); };

  font(15, SANS);
  const asked = linesOf([[prompt.slice(0, MOST_ASKED), 0]], PROMPT_LINES, wide, width), question = asked.slice(0, PROMPT_LINES);
  if (asked.length > PROMPT_LINES) question.at(-1).push([' …', 0]);
  font(SIZE, MONO);
  const all = linesOf(tokens, MOST_LINES, wide, width), lines = all.slice(0, MOST_LINES), cut = all.length > lines.length;
  const shown = cut ? (lines.flat().at(-1)?.[1] ?? 0) + 1 : tokens.length;
  const top = 150 + 22 * question.length + 20, below = top + LINE * lines.length, height = below + 2 * INSIDE + 56;

  canvas.width = WIDTH * SCALE;
  canvas.height = height * SCALE;
  pen.scale(SCALE, SCALE);
  pen.textBaseline = 'alphabetic';
  const write = (text, x, y, fill = ink, most = undefined) => {
    pen.fillStyle = fill;
    pen.fillText(text, x, y, most);
    return pen.measureText(text).width;
  };

  pen.fillStyle = colour('--body-background-fill');
  pen.fillRect(0, 0, WIDTH, height);
  font(20, SANS, 700);
  write(title, EDGE, 50);
  let x = EDGE;
  for (const [figure, words] of headline) {   // as beside the dials
    font(22, SANS, 700);
    x += write(figure, x, 92);
    font(16, SANS);
    x += write(` ${words}`, x, 92, soft) + 22;
  }
  font(13, SANS);
  x = WIDTH - EDGE;
  for (const [name, kind] of [['LLM', 'llm'], ['SLM', 'slm']]) {   // whose colours these are
    x -= pen.measureText(name).width;
    write(name, x, 50, soft);
    x -= 22;
    pen.fillStyle = colour(`--${kind}-tint`);
    pen.fillRect(x, 38, 16, 15);
    if (kind === 'llm') { pen.fillStyle = colour('--llm-line'); pen.fillRect(x, 51, 16, 2); }
    x -= 18;
  }
  pen.beginPath();
  pen.roundRect(EDGE, 112, WIDTH - 2 * EDGE, below + INSIDE - 112, 12);
  pen.fillStyle = colour('--block-background-fill');
  pen.fill();
  pen.strokeStyle = colour('--border-color-primary');
  pen.stroke();

  font(15, SANS);
  question.forEach((line, i) => write(line.map(([letter]) => letter).join(''), EDGE + INSIDE, 146 + 22 * i, soft));
  font(SIZE, MONO);
  lines.forEach((line, i) => {
    const y = top + LINE * i;
    let at = EDGE + INSIDE;
    for (const { text, index } of piecesOf(line)) {
      const long = pen.measureText(text).width, kind = tokens[index][1] === LLM ? 'llm' : 'slm';
      pen.fillStyle = colour(`--${kind}-tint`);
      pen.fillRect(at, y - 17, long, 24);
      if (kind === 'llm') { pen.fillStyle = colour('--llm-line'); pen.fillRect(at, y + 5, long, 2); }
      write(text, at, y);
      at += long;
    }
  });
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
