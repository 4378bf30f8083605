// Plotly draws the page's charts, in the page's theme.
export const COLOURS = ['#56b4e9', '#e69f00'];   // small model, large model

// Plotly is larger than all the rest of the page, so it is loaded for the first chart.
let plotly = null;
const loaded = (url) => (plotly ??= import(new URL(url, document.baseURI)).then(() => window.Plotly).catch((error) => { plotly = null; throw error; }));

const theme = (element) => {
  const style = getComputedStyle(element), colour = (name) => style.getPropertyValue(name).trim();
  const ink = colour('--body-text-color'), line = colour('--border-color-primary');
  return { ink, line, soft: colour('--body-text-color-subdued'), focus: colour('--focus'), layout: {
    showlegend: false, hovermode: 'closest', dragmode: false, paper_bgcolor: 'rgba(0,0,0,0)', plot_bgcolor: 'rgba(0,0,0,0)',
    font: { family: colour('--font'), color: ink, size: 12 }, hoverlabel: { bgcolor: colour('--block-background-fill'), bordercolor: line, font: { color: ink } },
  } };
};

// Returns a function that draws the chart `figure(theme, ...values)`, a pair of traces and layout, into `plot`. A change of the theme
// draws it anew. `handlers` are called at Plotly's events, by their names.
export const startChart = (plot, url, figure, handlers) => {
  let newest = null;
  const draw = async (...values) => {
    newest = values;
    const Plotly = await loaded(url), first = !plot.data;
    if (newest !== values) return;
    const look = theme(plot), [traces, layout] = figure(look, ...values);
    await Plotly.react(plot, traces, { ...look.layout, ...layout }, { displayModeBar: false, responsive: true });
    if (first) for (const [name, handle] of Object.entries(handlers)) plot.on(name, handle);
  };
  new MutationObserver(() => { if (newest) draw(...newest); }).observe(document.body, { attributes: true, attributeFilter: ['class'] });
  return draw;
};
