// The chart: quality against cost, by Plotly, with 95 % intervals, both ends in their colours, the picked point ringed.
const COLOURS = ['#56b4e9', '#e69f00'], percent = (share) => 100 * share;

// Plotly is loaded when a chart is drawn first, since it is larger than all the rest of the page.
let plotly = null;
const loaded = (url) => (plotly ??= import(new URL(url, document.baseURI)).then(() => window.Plotly).catch((error) => { plotly = null; throw error; }));

// Traces and layout of points { cost, quality, low, high, label }, all in shares of 1, in the theme of `element`.
export const chart = (element, points, picked, axis) => {
  const style = getComputedStyle(element), colour = (name) => style.getPropertyValue(name).trim();
  const ink = colour('--body-text-color'), soft = colour('--body-text-color-subdued'), line = colour('--border-color-primary');
  const cost = points.map((point) => percent(point.cost)), quality = points.map((point) => percent(point.quality));
  const bars = (bound) => points.map((point) => percent(Math.abs(point[bound] - point.quality)));
  const top = Math.min(100, 10 * Math.ceil(10 * Math.max(...points.map(({ high }) => high))));
  const bottom = Math.max(0, Math.min(top - 20, 10 * Math.floor(10 * Math.min(...points.map(({ low }) => low)))));
  const ends = points.map((_, i) => (i === 0 ? COLOURS[0] : i === points.length - 1 ? COLOURS[1] : ink));
  const scale = (title, own) => ({ title: { text: title, standoff: 6 }, ticksuffix: ' %', gridcolor: line, linecolor: line, color: soft, zeroline: false, ...own });
  return [[
    { type: 'scatter', mode: 'lines+markers', x: cost, y: quality, text: points.map(({ label }) => label), hovertemplate: '%{text}<extra></extra>',
      line: { color: ink, width: 2 }, marker: { color: ends, size: ends.map((own) => (own === ink ? 8 : 12)), line: { color: ink, width: 1 } },
      error_y: { type: 'data', symmetric: false, array: bars('high'), arrayminus: bars('low'), color: ink, thickness: 1, width: 4 } },
    { type: 'scatter', mode: 'markers', x: [cost[picked]], y: [quality[picked]], hoverinfo: 'skip',
      marker: { symbol: 'circle-open', size: 20, color: colour('--focus'), line: { width: 3 } } },
  ], {
    height: 300, margin: { l: 56, r: 12, t: 12, b: 44 }, showlegend: false, hovermode: 'closest', dragmode: false,
    paper_bgcolor: 'rgba(0,0,0,0)', plot_bgcolor: 'rgba(0,0,0,0)', font: { family: colour('--font'), color: ink, size: 12 },
    hoverlabel: { bgcolor: colour('--block-background-fill'), bordercolor: line, font: { color: ink } },
    xaxis: scale('bytes moved, % of the large model alone', { rangemode: 'tozero' }), yaxis: scale(axis, { range: [bottom - 1, top + 1] }),
  }];
};

// A function that draws such points into `plot`, and again when the theme changes; `pick(number)` hears which one was clicked.
export const startChart = (plot, url, pick) => {
  let last = null;
  const draw = async (...what) => {
    last = what;
    const Plotly = await loaded(url), first = !plot.data;
    if (last !== what) return;   // a newer one is on its way
    await Plotly.react(plot, ...chart(plot, ...what), { displayModeBar: false, responsive: true });
    if (first) plot.on('plotly_click', ({ points: [{ curveNumber, pointNumber }] }) => { if (curveNumber === 0) pick(pointNumber); });
  };
  new MutationObserver(() => { if (last) draw(...last); }).observe(document.body, { attributes: true, attributeFilter: ['class'] });
  return draw;
};
