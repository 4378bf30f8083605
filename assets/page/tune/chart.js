// Tune's chart: quality against cost, with 95 % intervals. The ends have the models' colours, the picked point has a ring.
import { COLOURS, startChart } from '../lib/plotly.js';

const percent = (share) => 100 * share;

// Points are { cost, quality, low, high, label }, as shares of 1.
const figure = ({ ink, soft, line, focus }, points, picked, title) => {
  const cost = points.map((point) => percent(point.cost)), quality = points.map((point) => percent(point.quality));
  const bars = (bound) => points.map((point) => percent(Math.abs(point[bound] - point.quality)));
  const top = Math.min(100, 10 * Math.ceil(10 * Math.max(...points.map(({ high }) => high))));
  const bottom = Math.max(0, Math.min(top - 20, 10 * Math.floor(10 * Math.min(...points.map(({ low }) => low)))));
  const ends = points.map((_, i) => (i === 0 ? COLOURS[0] : i === points.length - 1 ? COLOURS[1] : ink));
  const axis = (text, own) => ({ title: { text, standoff: 6 }, ticksuffix: ' %', gridcolor: line, linecolor: line, color: soft, zeroline: false, ...own });
  return [[
    { type: 'scatter', mode: 'lines+markers', cliponaxis: false, x: cost, y: quality, text: points.map(({ label }) => label), hovertemplate: '%{text}<extra></extra>',
      line: { color: ink, width: 2 }, marker: { color: ends, size: ends.map((own) => (own === ink ? 8 : 12)), line: { color: ink, width: 1 } },
      error_y: { type: 'data', symmetric: false, array: bars('high'), arrayminus: bars('low'), color: ink, thickness: 1, width: 4 } },
    { type: 'scatter', mode: 'markers', cliponaxis: false, x: [cost[picked]], y: [quality[picked]], hoverinfo: 'skip',
      marker: { symbol: 'circle-open', size: 20, color: focus, line: { width: 3 } } },
  ], { height: 300, margin: { l: 56, r: 20, t: 12, b: 44 },
    xaxis: axis('bytes moved, % of the large model alone', { rangemode: 'tozero' }), yaxis: axis(title, { range: [bottom - 1, top + 1] }) }];
};

// Returns a function that draws points. `pick(index)` is called at a click on one.
export const startPoints = (plot, url, pick) => startChart(plot, url, figure, {
  plotly_click: ({ points: [{ curveNumber, pointNumber }] }) => { if (curveNumber === 0) pick(pointNumber); },
});
