// Paints coloured text on a canvas, for the picture and the film. Model text is only painted, never made markup.
import { isBreak, visible } from './format.js';
import { LLM } from './threshold.js';

export const SIZE = 16, LINE = 29;   // pixels: height of the letters, and of a line
export const MONO = 'ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace';
export const SANS = 'system-ui, -apple-system, "Segoe UI", Roboto, sans-serif';

export const coloursOf = (element) => {
  const style = getComputedStyle(element), colour = (name) => style.getPropertyValue(name).trim();
  return { ink: colour('--body-text-color'), soft: colour('--body-text-color-subdued'), ground: colour('--body-background-fill'),
    paper: colour('--block-background-fill'), line: colour('--border-color-primary'), underline: colour('--llm-line'),
    tint: { slm: colour('--slm-tint'), llm: colour('--llm-tint') } };
};

// Returns what sets a canvas's font, writes on it and fills it.
export const brushOf = (pen) => ({
  font: (size, family, weight = 400) => { pen.font = `${weight} ${size}px ${family}`; },
  write: (text, x, y, colour, most) => { pen.fillStyle = colour; pen.fillText(text, x, y, most); },
  fill: (colour, ...rectangle) => { pen.fillStyle = colour; pen.fillRect(...rectangle); },
});

const letters = (text) => (Intl.Segmenter ? [...new Intl.Segmenter().segment(text)].map(({ segment }) => segment) : [...text]);

// Breaks a text into lines that are at most `wide` pixels, at spaces if possible. `tokens` are [text, author]; a line is a list of
// [letter, index of its token]. Returns `most` lines at most, and one more if there is more text.
export const linesOf = (pen, tokens, most, wide) => {
  const lines = [[]], widths = new Map();
  let filled = 0, space = -1;   // pixels of the last line, and the place of its last space
  const width = (letter) => {
    if (!widths.has(letter)) widths.set(letter, pen.measureText(letter).width);
    return widths.get(letter);
  };
  const start = (line) => {
    lines.push(line);
    filled = line.reduce((sum, [letter]) => sum + width(letter), 0);
    space = -1;
  };
  for (const [index, [text, author]] of tokens.entries()) {
    if (lines.length > most) break;
    for (const letter of letters(visible(text).replaceAll('\r', '').replaceAll('\t', '    '))) {
      if (letter === '\n') {
        if (author === LLM && isBreak(text)) lines.at(-1).push(['↵', index]);   // as on the page
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

// Paints a line with its base line at y, the letters of one token at once.
export const paintLine = (pen, { ink, underline, tint }, line, x, y, isLlm) => {
  const { fill, write } = brushOf(pen);
  for (let from = 0, to = 0; from < line.length; from = to) {
    const index = line[from][1], llm = isLlm(index);
    while (to < line.length && line[to][1] === index) to++;
    const text = line.slice(from, to).map(([letter]) => letter).join(''), long = pen.measureText(text).width;
    fill(tint[llm ? 'llm' : 'slm'], x, y - 17, long, 24);
    if (llm) fill(underline, x, y + 5, long, 2);
    write(text, x, y, ink);
    x += long;
  }
};
