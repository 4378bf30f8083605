// Draws the meter and the two plots. The server sends figures once per run and view, and then only new points; colours
// that belong to the theme are filled in here. Runs as gradio's js_on_load: element, props, server and watch are given.
const plots = [...element.querySelectorAll('.plot')];
const CONFIG = { displayModeBar: false, responsive: true, doubleClick: 'reset' };
let latest = null, away = false, scheduled = false, drawing = Promise.resolve();

const blank = (shown) => shown.map((figure) => ({ ...figure, revision: 0 }));
let figures = blank(props.figures);
const colour = (name) => getComputedStyle(element).getPropertyValue(name).trim();

// Plotly draws every marker as an element of its own, which is slow by the thousand; filled outlines are one for all.
const MANY = 400, HALF = { SLM: 0.013, LLM: 0.03 };
const outlines = (trace, tokens) => {
  const high = HALF[trace.name], wide = 0.006 * tokens, x = [], y = [];
  trace.x.forEach((at, i) => {
    const score = trace.y[i];
    x.push(at - wide, at + wide, at + wide, at - wide, null);
    y.push(score - high, score - high, score + high, score + high, null);
  });
  return { ...trace, mode: 'none', fill: 'toself', fillcolor: trace.marker.color, hoverinfo: 'skip', x, y };
};

// The theme's colours, read anew whenever it changes.
const dressed = (figure) => {
  const ink = colour('--body-text-color'), soft = colour('--body-text-color-subdued'), line = colour('--border-color-primary');
  const tokens = figure.data.reduce((sum, trace) => sum + (trace.mode === 'markers' ? trace.x.length : 0), 0);
  const axis = (own) => ({ ...own, gridcolor: line, linecolor: line, tickfont: { size: 11 }, color: soft,
    title: { ...own.title, font: { size: 11, color: soft } } });
  const inked = (trace) => ({ ...trace, line: { ...trace.line, color: trace.name === 'threshold' ? soft : ink } });
  const data = figure.data.map((trace) => (trace.meta === 'ink' ? inked(trace)
    : tokens > MANY && trace.mode === 'markers' ? outlines(trace, tokens) : trace));
  const layout = { ...figure.layout, paper_bgcolor: 'rgba(0,0,0,0)', plot_bgcolor: 'rgba(0,0,0,0)',
    font: { family: colour('--font'), color: ink, size: 12 },
    hoverlabel: { bgcolor: colour('--block-background-fill'), bordercolor: line, font: { color: ink } },
    xaxis: axis(figure.layout.xaxis), yaxis: axis(figure.layout.yaxis) };
  return [data, layout];
};

// Resolves to the milliseconds that it took.
const drawPlots = async () => {
  const Plotly = await plotly;
  let spent = 0;
  for (const [i, figure] of figures.entries()) {
    const started = performance.now(), [data, layout] = dressed(figure);
    layout.datarevision = figure.revision;
    const first = !plots[i].data;
    await Plotly.react(plots[i], data, layout, CONFIG);
    if (first && i === 0) plots[0].on('plotly_afterplot', placeSlider);
    placeSlider();
    spent += performance.now() - started;
    await new Promise(requestAnimationFrame);   // two short tasks rather than a long one
  }
  return spent;
};

// The slider's position over the score plot, as an element of ours: moving it costs Plotly nothing.
const level = element.querySelector('.slider-line');
const placeSlider = () => {
  const value = Number.parseFloat(document.querySelector('#threshold input[type="range"]')?.value);
  const axes = plots[0]._fullLayout;
  if (!axes || Number.isNaN(value)) return;
  const { l, t, w } = axes._size, down = axes.yaxis.l2p(value);
  level.hidden = down < 0 || down > axes.yaxis._length;
  Object.assign(level.style, { left: `${plots[0].offsetLeft + l}px`, width: `${w}px`, top: `${plots[0].offsetTop + t + down}px` });
};

const drawMeter = () => {
  for (const [field, value] of Object.entries(latest.meter)) {
    const node = element.querySelector(`[data-field="${field}"]`);
    if (node && !(away && field === 'modelled')) node.textContent = value;
  }
  const [run, slm, llm] = latest.meter.gauge;
  element.querySelector('.gauge-run').style.width = `${100 * run}%`;
  element.querySelector('.gauge-slm').style.left = `${100 * slm}%`;
  element.querySelector('.gauge-llm').style.left = `${100 * llm}%`;
};

// The meter follows at once. The plots take their time from the models, so while a text is written they get an eightieth of
// it at most.
const SHARE = 80;
let due = 0, later = 0;
const draw = () => {
  scheduled = false;
  if (latest) drawMeter();
  clearTimeout(later);
  const wait = latest?.over === false && !latest.figures ? due - performance.now() : 0;
  if (wait > 0) { later = setTimeout(schedule, wait); return; }
  due = performance.now() + 500;
  drawing = drawing.then(async () => {
    const started = performance.now();
    const spent = await drawPlots();
    due = Math.max(due, started + SHARE * spent);
  }).catch((error) => console.error(error));
};
const schedule = () => { if (!scheduled) { scheduled = true; requestAnimationFrame(draw); } };

// What stays of another run: its points up to a token, all at the new threshold.
const keep = (tokens, threshold) => figures.forEach((figure) => figure.data.forEach((trace) => {
  const end = trace.x.findIndex((x) => x > tokens), some = end < 0 ? trace.x.length : end;
  trace.x = trace.x.slice(0, some);
  trace.y = trace.name === 'threshold' ? trace.x.map(() => threshold) : trace.y.slice(0, some);
}));

const show = (message, skip, fresh, kept) => {
  if (message.figures) figures = blank(message.figures);
  else if (fresh) keep(kept, message.threshold);
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

openChannel((message, skip, fresh, kept) => show(message, message.figures ? 0 : skip, fresh, kept),
  (message) => ({ ...message, restart: Boolean(message.figures) })).receive();

// While the slider scrubs through a sweep, these are the figures of another text, and look it.
const elsewhere = (yes) => {
  away = yes;
  element.querySelector('.dashboard').classList.toggle('elsewhere', yes);
  element.querySelector('[data-field="modelled"]').textContent = yes ? 'Figures of the last text; the sweep has its own. “Open this text” brings them here.' : latest?.meter.modelled ?? '';
};
document.addEventListener('citer-text', () => elsewhere(true));
document.addEventListener('citer-run', () => elsewhere(false));
document.addEventListener('input', (event) => {
  if (element.isConnected && event.target.closest?.('#threshold')) requestAnimationFrame(placeSlider);
});
new MutationObserver(schedule).observe(document.body, { attributes: true, attributeFilter: ['class'] });
new ResizeObserver(() => requestAnimationFrame(placeSlider)).observe(element);
(window.requestIdleCallback ?? setTimeout)(schedule);
