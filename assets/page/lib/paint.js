// Coloured text painted on a canvas, for what cannot be HTML: a picture, a film. Model text is painted, never made markup.
import { isBreak, visible } from './format.js';
import { LLM } from './threshold.js';

export const SIZE = 16, LINE = 29;   // pixels: of the letters, and from line to line
export const MONO = 'ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace';
export const SANS = 'system-ui, -apple-system, "Segoe UI", Roboto, sans-serif';

// The theme's colours as they are now.
export const coloursOf = (element) => {
  const style = getComputedStyle(element), colour = (name) => style.getPropertyValue(name).trim();
  return { ink: colour('--body-text-color'), soft: colour('--body-text-color-subdued'), ground: colour('--body-background-fill'),
    paper: colour('--block-background-fill'), line: colour('--border-color-primary'), underline: colour('--llm-line'),
    tint: { slm: colour('--slm-tint'), llm: colour('--llm-tint') } };
};

const letters = (text) => (Intl.Segmenter ? [...new Intl.Segmenter().segment(text)].map(({ segment }) => segment) : [...text]);

// A text's letters, each with the number of its token, in lines of the pen's letters that fit into `wide`, and one more than
// `most` where there are more; broken at spaces where there is one. A token begins with its text and its author.
export const linesOf = (pen, tokens, most, wide) => {
  const lines = [[]], known = new Map();
  let filled = 0, space = -1;
  const width = (letter) => {
    if (!known.has(letter)) known.set(letter, pen.measureText(letter).width);
    return known.get(letter);
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
        if (author === LLM && isBreak(text)) lines.at(-1).push(['↵', index]);   // as the page marks a line break of the LLM's
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

// A line of letters, neighbours of one token in one piece, from a place on its base line; `isLlm(index)` says who wrote it.
export const paintLine = (pen, { ink, underline, tint }, line, x, y, isLlm) => {
  for (let from = 0, to = 0; from < line.length; from = to) {
    const index = line[from][1], llm = isLlm(index);
    while (to < line.length && line[to][1] === index) to++;
    const text = line.slice(from, to).map(([letter]) => letter).join(''), long = pen.measureText(text).width;
    pen.fillStyle = tint[llm ? 'llm' : 'slm'];
    pen.fillRect(x, y - 17, long, 24);
    pen.fillStyle = underline;
    if (llm) pen.fillRect(x, y + 5, long, 2);
    pen.fillStyle = ink;
    pen.fillText(text, x, y);
    x += long;
  }
};
