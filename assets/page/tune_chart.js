// The chart: quality against cost, both ends in their colours, the router's shipped curve dashed, the picked point ringed.
const CHART_CONFIG = { displayModeBar: false, responsive: true, doubleClick: 'reset' };
const PICK = 3;   // number of the ring among the traces
const colour = (name) => getComputedStyle(element).getPropertyValue(name).trim();

const percentOf = (value) => 100 * value;
const wholePercent = (part) => `${part > 0 && part < 0.005 ? '<1' : part < 1 && part > 0.995 ? '>99' : Math.round(100 * part)}\u202f%`;

const pointText = (points, point, unit) => `threshold ${shortThreshold(point[THRESHOLD])}: ${wholePercent(point[QUALITY])} `
  + `(95 %: ${wholePercent(point[LOW])} to ${wholePercent(point[HIGH])}), ${wholePercent(point[SHARE])} LLM tokens, `
  + `cost ${wholePercent(relative(points, point, unit))}`;

const line = (points, unit, more) => ({
  type: 'scatter', x: points.map((point) => percentOf(relative(points, point, unit))), y: points.map((point) => percentOf(point[QUALITY])),
  text: points.map((point) => pointText(points, point, unit)), hovertemplate: '%{text}<extra>%{fullData.name}</extra>', ...more,
});

const traces = (points, shipped, unit, values) => {
  const ink = colour('--body-text-color'), soft = colour('--body-text-color-subdued');
  const spread = (bound) => points.map((point) => percentOf(Math.abs(point[bound] - point[QUALITY])));
  const end = (point, name, symbol, fill) => line([point], unit, { name, mode: 'markers', x: [percentOf(relative(points, point, unit))],
    text: [pointText(points, point, unit)], marker: { size: 12, symbol, color: fill, line: { width: 1.5, color: ink } } });
  return [
    line(shipped ?? [], unit, { name: 'shipped', mode: 'lines+markers', line: { dash: 'dash', width: 1.5, color: soft },
      marker: { size: 4, color: soft } }),
    line(points, unit, { name: 'your prompts', mode: 'lines+markers', line: { width: 2.5, color: ink }, marker: { size: 6, color: ink },
      error_y: { type: 'data', symmetric: false, array: spread(HIGH), arrayminus: spread(LOW), color: ink, thickness: 1, width: 4 } }),
    end(points[0], 'SLM only', 'circle', '#56b4e9'),
    { type: 'scatter', name: 'picked', mode: 'markers', hoverinfo: 'skip', ...ring(points, unit, values),
      marker: { size: 19, symbol: 'circle-open', color: colour('--focus'), line: { width: 3 } } },
    end(points.at(-1), 'LLM only', 'diamond', '#e69f00'),
  ];
};

const ring = (points, unit, values) => ({ x: [percentOf(relative(points, values, unit))], y: [percentOf(values[QUALITY])] });

const chartLayout = (kind, unit) => {
  const soft = colour('--body-text-color-subdued'), grid = colour('--border-color-primary');
  const axis = (text) => ({ title: { text, standoff: 6, font: { size: 11, color: soft } }, ticksuffix: ' %', tickfont: { size: 11 },
    gridcolor: grid, linecolor: grid, color: soft, zeroline: false });
  return {
    height: 300, margin: { l: 56, r: 12, t: 12, b: 42 }, showlegend: false, hovermode: 'closest', dragmode: 'zoom',
    uirevision: `${kind} ${unit}`, paper_bgcolor: 'rgba(0,0,0,0)', plot_bgcolor: 'rgba(0,0,0,0)',
    font: { family: colour('--font'), color: colour('--body-text-color'), size: 12 },
    hoverlabel: { bgcolor: colour('--block-background-fill'), bordercolor: grid, font: { color: colour('--body-text-color') } },
    xaxis: { ...axis(`cost, % of LLM-only (${UNIT_NAMES[unit]})`), rangemode: 'tozero' },
    yaxis: axis(kind === 'right' ? 'right answers' : 'agreement with the LLM-only text'),
  };
};
