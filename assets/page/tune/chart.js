// The chart: quality against cost, both ends in their colours, the router's shipped curve dashed, the picked point ringed.
import { HIGH, LOW, QUALITY, relative, SHARE, shortThreshold, THRESHOLD } from '../lib/curve.js';
import { wholePercent } from '../lib/format.js';
import { CONFIG } from '../lib/plot.js';
import { QUALITY_AXES, UNIT_NAMES } from './words.js';

const pointText = (points, point, unit) => `threshold ${shortThreshold(point[THRESHOLD])}: ${wholePercent(point[QUALITY])} `
  + `(95 %: ${wholePercent(point[LOW])} to ${wholePercent(point[HIGH])}), ${wholePercent(point[SHARE])} LLM tokens, `
  + `cost ${wholePercent(relative(points, point, unit))}`;

// The number of the point that was clicked in the chart, undefined where it is no measured one of these prompts.
export const clicked = ({ points: [{ curveNumber, pointNumber }] }, points) => ({ 1: pointNumber, 2: 0, 4: points.length - 1 })[curveNumber];

// What Plotly draws: traces, layout and configuration.
export const chart = ({ kind, unit, first, points, values }, shipped, { colour, ink, soft, axis, layout }) => {
  // Some points, whose costs are in shares of the cost of the last of `all`.
  const trace = (name, mode, some, look, all = points) => ({
    type: 'scatter', name, mode, x: some.map((point) => 100 * relative(all, point, unit)), y: some.map((point) => 100 * point[QUALITY]),
    text: some.map((point) => pointText(all, point, unit)), hovertemplate: '%{text}<extra>%{fullData.name}</extra>', ...look });
  const end = (name, point, symbol, color) => trace(name, 'markers', [point],
    { marker: { size: 12, symbol, color, line: { width: 1.5, color: ink } } });
  const spread = (bound) => points.map((point) => 100 * Math.abs(point[bound] - point[QUALITY]));
  const named = (text, own) => axis({ ...own, ticksuffix: ' %', title: { text, standoff: 6 } });
  return [[
    trace('shipped', 'lines+markers', shipped, { line: { dash: 'dash', width: 1.5, color: soft }, marker: { size: 4, color: soft } }, shipped),
    trace('your prompts', 'lines+markers', points, { line: { width: 2.5, color: ink }, marker: { size: 6, color: ink },
      error_y: { type: 'data', symmetric: false, array: spread(HIGH), arrayminus: spread(LOW), color: ink, thickness: 1, width: 4 } }),
    end(first, points[0], 'circle', '#56b4e9'),
    trace('picked', 'markers', [values], { hoverinfo: 'skip',
      marker: { size: 19, symbol: 'circle-open', color: colour('--focus'), line: { width: 3 } } }),
    end('LLM only', points.at(-1), 'diamond', '#e69f00'),
  ], {
    ...layout, height: 300, margin: { l: 56, r: 12, t: 12, b: 42 }, dragmode: 'zoom', uirevision: `${kind} ${unit}`,
    xaxis: named(`cost, % of LLM-only (${UNIT_NAMES[unit]})`, { rangemode: 'tozero' }), yaxis: named(QUALITY_AXES[kind]),
  }, { ...CONFIG, doubleClick: 'reset' }];
};
