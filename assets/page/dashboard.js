// Draws the meter and the two plots. The server sends figures once per run and view, and then only new points; colours
// that belong to the theme are filled in here. Runs as gradio's js_on_load: element, props, server and watch are given.
const plots = [...element.querySelectorAll('.plot')];
const CONFIG = { displayModeBar: false, responsive: true, doubleClick: 'reset' };
let figures = null, latest = null, scheduled = false, slider = null, drawing = Promise.resolve();

const plotly = new Promise((resolve, reject) => {
  if (window.Plotly) return resolve(window.Plotly);
  const script = document.createElement('script');
  script.src = props.plotly;
  script.onload = () => resolve(window.Plotly);
  script.onerror = () => reject(new Error(`${props.plotly} could not be loaded`));
  document.head.append(script);
});

const colour = (name) => getComputedStyle(element).getPropertyValue(name).trim();

// The theme's colours, read anew whenever it changes.
const dressed = (figure) => {
  const ink = colour('--body-text-color'), soft = colour('--body-text-color-subdued'), line = colour('--border-color-primary');
  const surface = colour('--block-background-fill');
  const axis = (own) => ({ ...own, gridcolor: line, linecolor: line, tickfont: { size: 11 }, color: soft,
    title: { ...own.title, font: { size: 11, color: soft } } });
  const data = figure.data.map((trace) => (trace.meta !== 'ink' ? trace
    : { ...trace, line: { ...trace.line, color: trace.name === 'threshold' ? soft : ink } }));
  const layout = { ...figure.layout, paper_bgcolor: 'rgba(0,0,0,0)', plot_bgcolor: 'rgba(0,0,0,0)',
    font: { family: colour('--font'), color: ink, size: 12 },
    hoverlabel: { bgcolor: surface, bordercolor: line, font: { color: ink } },
    xaxis: axis(figure.layout.xaxis), yaxis: axis(figure.layout.yaxis),
    shapes: (figure.layout.shapes ?? []).map((shape) => ({ ...shape, line: { ...shape.line, color: ink },
      ...(slider === null ? {} : { y0: slider, y1: slider }) })) };
  return [data, layout];
};

const drawPlots = async () => {
  const Plotly = await plotly;
  if (!figures) return;
  for (const [i, figure] of figures.entries()) {
    const [data, layout] = dressed(figure);
    layout.datarevision = figure.revision;
    await Plotly.react(plots[i], data, layout, CONFIG);
  }
};

const drawMeter = () => {
  for (const [field, value] of Object.entries(latest.meter)) {
    const node = element.querySelector(`[data-field="${field}"]`);
    if (node) node.textContent = value;
  }
  const [run, slm, llm] = latest.meter.gauge;
  element.querySelector('.gauge-run').style.width = `${100 * run}%`;
  element.querySelector('.gauge-slm').style.left = `${100 * slm}%`;
  element.querySelector('.gauge-llm').style.left = `${100 * llm}%`;
};

const draw = () => {
  scheduled = false;
  if (latest) drawMeter();
  drawing = drawing.then(drawPlots).catch((error) => console.error(error));
};
const schedule = () => { if (!scheduled) { scheduled = true; requestAnimationFrame(draw); } };

const show = (message, skip) => {
  if (message.figures) figures = message.figures.map((figure) => ({ ...figure, revision: 0 }));
  latest = message;
  message.points.forEach((traces, i) => {
    const figure = figures[i];
    figure.revision++;
    traces.forEach((points, k) => {
      // Points carry their token number, so those that are known already can be told by it.
      const known = message.from + skip, start = points.x.findIndex((x) => x > known);
      if (start < 0) return;
      figure.data[k].x = [...figure.data[k].x, ...points.x.slice(start)];
      figure.data[k].y = [...figure.data[k].y, ...points.y.slice(start)];
    });
  });
  schedule();
};

const channel = openChannel((data) => server[props.resend_name](data), (message, skip) => show(message, message.figures ? 0 : skip));
const receive = () => {
  if (!props.value) return;
  const message = JSON.parse(props.value);
  channel.accept({ ...message, restart: Boolean(message.figures) });
};
watch('value', receive);
receive();

let wanted = null;
document.addEventListener('input', (event) => {
  if (!element.isConnected || !event.target.closest?.('#threshold')) return;
  const first = wanted === null;
  wanted = Number.parseFloat(event.target.value);
  if (!first) return;
  requestAnimationFrame(async () => {
    slider = wanted; wanted = null;
    if (!figures || Number.isNaN(slider)) return;
    (await plotly).relayout(plots[0], { 'shapes[0].y0': slider, 'shapes[0].y1': slider });
  });
});
new MutationObserver(schedule).observe(document.body, { attributes: true, attributeFilter: ['class'] });
