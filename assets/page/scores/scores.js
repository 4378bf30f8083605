// The chart under the slider: the score of each token, and the threshold as a line.
import { announce, dialAt, finder, listen, onSlider, perFrame } from '../lib/dom.js';
import { apart } from '../lib/format.js';
import { COLOURS, startChart } from '../lib/plotly.js';
import { AUTHOR, LLM, SCORE, THRESHOLD } from '../lib/threshold.js';

const TICKS = [0.01, 0.1, 0.5, 0.9, 0.99, 0.999], REST = 1000;   // milliseconds between two drawings while a text is written

// Scores crowd near 1, so they are spaced by their log odds.
const [BOTTOM, TOP] = [0.003, 0.9997].map((score) => Math.log(score / (1 - score)));
const heightOf = (score) => (score <= 0 ? BOTTOM : score >= 1 ? TOP : Math.max(BOTTOM, Math.min(TOP, Math.log(score / (1 - score)))));
const EVEN = heightOf(0.5);

const lineAt = (threshold, color, width, x) => ({ type: 'line', y0: heightOf(threshold), y1: heightOf(threshold), line: { color, width }, ...x });

// The threshold as a line, and thinner lines where tokens were decided by another one.
const linesAt = (tokens, threshold, { ink, soft }) => {
  const starts = [...tokens.keys()].filter((i) => i === 0 || tokens[i][THRESHOLD] !== tokens[i - 1][THRESHOLD]);
  const others = starts.filter((from) => tokens[from][THRESHOLD] !== threshold);
  return [lineAt(threshold, ink, 2, { xref: 'paper', x0: 0, x1: 1 }),
    ...others.map((from) => lineAt(tokens[from][THRESHOLD], soft, 1, { x0: from + 0.5, x1: (starts.find((next) => next > from) ?? tokens.length) + 0.5 }))];
};

const heightsOf = (tokens, threshold) => [Math.min(EVEN, ...[threshold, ...tokens.map((token) => token[SCORE] ?? 1)].map(heightOf)) - 0.5, TOP + 0.5];

const figure = (theme, tokens, threshold) => {
  const { ink, soft, line } = theme;
  const scored = [...tokens.keys()].filter((i) => tokens[i][SCORE] !== null), of = (what) => scored.map((i) => what(tokens[i], i));
  const axis = { gridcolor: line, linecolor: line, color: soft, zeroline: false, fixedrange: true };
  return [[{
    type: 'scatter', mode: 'markers', x: of((_, i) => i + 1), y: of((token) => heightOf(token[SCORE])), customdata: scored,
    text: of((token) => `${apart(token[SCORE], token[THRESHOLD])[0]}`), hovertemplate: '%{text}<extra></extra>',
    marker: { size: 9, color: of((token) => COLOURS[token[AUTHOR]]), symbol: of((token) => (token[AUTHOR] === LLM ? 'square' : 'circle')), line: { color: ink, width: 0.5 } },
  }], {
    height: 150, margin: { l: 44, r: 8, t: 6, b: 20 }, shapes: linesAt(tokens, threshold, theme),
    xaxis: { ...axis, showgrid: false, range: [0, Math.max(30, tokens.length) + 1] },
    yaxis: { ...axis, range: heightsOf(tokens, threshold), tickvals: TICKS.map(heightOf), ticktext: TICKS.map(String) },
  }];
};

export const start = ({ element, props }) => {
  const find = finder(element), plot = find('.scores-plot');
  const drawChart = startChart(plot, props.plotly, figure, {
    plotly_hover: ({ points: [{ customdata }] }) => announce('citer-point', { index: customdata }),
    plotly_unhover: () => announce('citer-point', { index: -1 }),
    plotly_click: ({ points: [{ customdata }] }) => announce('citer-point', { index: customdata, pin: true }),
  });
  let tokens = [], threshold = 0, isRecorded = false, isSeen = false, drawn = 0, later = 0;

  const draw = () => {
    clearTimeout(later);
    later = 0;
    if (!isSeen || !tokens.length) return;
    drawn = Date.now();
    drawChart(tokens, threshold);
  };
  new IntersectionObserver(([{ isIntersecting }]) => { isSeen = isIntersecting; draw(); }).observe(element);

  listen(element, 'citer-outcome', ({ detail }) => {
    ({ texts: tokens = [], recorded: isRecorded = false } = detail);
    threshold = isRecorded ? tokens.at(-1)?.[THRESHOLD] ?? 0 : dialAt('threshold');   // a recorded text moves without the dial
    find('.scores').hidden = !tokens.some((token) => token[SCORE] !== null);
    if (detail.over) draw();
    else later ||= setTimeout(draw, Math.max(0, drawn + REST - Date.now()));
  });
  const moveLine = perFrame(() => {
    if (isRecorded || !plot.data) return;
    threshold = dialAt('threshold');
    window.Plotly.relayout(plot, { 'shapes[0].y0': heightOf(threshold), 'shapes[0].y1': heightOf(threshold), 'yaxis.range': heightsOf(tokens, threshold) });
  });
  onSlider(element, moveLine);
};
