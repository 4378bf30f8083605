// Plotly, which draws the page's charts, in the page's theme.
export const COLOURS = ['#56b4e9', '#e69f00'];   // of the small model and the large one

// It is loaded when a chart is drawn first, since it is larger than all the rest of the page.
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

// A function that draws what `figure(theme, ...values)` returns, a pair of traces and layout, into `plot`, and again when the
// theme changes. `heard` has what is to be done at Plotly's events.
export const startChart = (plot, url, figure, heard) => {
  let last = null;
  const draw = async (...values) => {
    last = values;
    const Plotly = await loaded(url), first = !plot.data;
    if (last !== values) return;   // a newer one is on its way
    const look = theme(plot), [traces, layout] = figure(look, ...values);
    await Plotly.react(plot, traces, { ...look.layout, ...layout }, { displayModeBar: false, responsive: true });
    if (first) for (const [name, hear] of Object.entries(heard)) plot.on(name, hear);
  };
  new MutationObserver(() => { if (last) draw(...last); }).observe(document.body, { attributes: true, attributeFilter: ['class'] });
  return draw;
};
