// Draws the meter and the two plots. The server sends figures once per run and view, and then only new points; colours
// that belong to the theme are filled in here.
import { openChannel } from '../lib/channel.js';
import { dialAt, finder, listen, onSlider, perFrame, say } from '../lib/dom.js';
import { CONFIG, inSight, loadPlotly, onTheme, themeOf } from '../lib/plot.js';

const PART = 80;   // while a text is written the plots get an eightieth of the time at most: it is the models'

// Plotly draws every marker as an element of its own, which is slow by the thousand; filled outlines are one for all.
const MANY = 400, HALF = { SLM: 0.013, LLM: 0.03 };
const outlines = (trace, tokens) => {
  const high = HALF[trace.name], wide = 0.006 * tokens;
  const x = trace.x.flatMap((at) => [at - wide, at + wide, at + wide, at - wide, null]);
  const y = trace.y.flatMap((score) => [score - high, score - high, score + high, score + high, null]);
  return { ...trace, mode: 'none', fill: 'toself', fillcolor: trace.marker.color, hoverinfo: 'skip', x, y };
};

const dressed = (figure, { ink, soft, axis, layout }) => {
  const dots = figure.data.filter((trace) => trace.mode === 'markers'), tokens = dots.reduce((sum, { x }) => sum + x.length, 0);
  const data = figure.data.map((trace) => {
    if (trace.meta === 'ink') return { ...trace, line: { ...trace.line, color: trace.name === 'threshold' ? soft : ink } };
    return tokens > MANY && dots.includes(trace) ? outlines(trace, tokens) : trace;
  });
  return [data, { ...figure.layout, ...layout, xaxis: axis(figure.layout.xaxis), yaxis: axis(figure.layout.yaxis) }];
};

export const start = (gradio) => {
  const { element, props } = gradio, find = finder(element), field = (name) => find(`[data-field="${name}"]`);
  const plots = [...element.querySelectorAll('.plot')], level = find('.slider-line');
  let counted = {};   // tokens and LLM share, as the count beside the text has them, which is told with every token
  let latest = null, scrubbed = false, { figures } = props, revision = 0, drawing = Promise.resolve(), due = 0, later = 0;

  // The slider's position over the score plot, as an element of ours: moving it costs Plotly nothing.
  const placeSlider = () => {
    const axes = plots[0]._fullLayout;
    if (!axes) return;
    const { l, t, w } = axes._size, down = axes.yaxis.l2p(dialAt('threshold'));
    level.hidden = down < 0 || down > axes.yaxis._length;
    Object.assign(level.style, { left: `${plots[0].offsetLeft + l}px`, width: `${w}px`, top: `${plots[0].offsetTop + t + down}px` });
  };
  const placeSoon = () => requestAnimationFrame(placeSlider);

  const drawPlots = async () => {
    const Plotly = await loadPlotly(props.plotly), begun = performance.now();
    let spent = 0;
    for (const [i, figure] of figures.entries()) {
      const started = performance.now(), [data, layout] = dressed(figure, themeOf(element)), first = !plots[i].data;
      await Plotly.react(plots[i], data, { ...layout, datarevision: revision }, { ...CONFIG, doubleClick: 'reset' });
      if (first && i === 0) plots[0].on('plotly_afterplot', placeSlider);
      placeSlider();
      spent += performance.now() - started;
      await new Promise(requestAnimationFrame);   // two short tasks rather than a long one
    }
    due = Math.max(due, begun + PART * spent);
  };

  const ownMeter = () => (counted.n === latest.n ? { ...latest.meter, ...counted.words } : latest.meter);
  const drawMeter = ({ gauge, ...texts }) => {
    for (const [name, text] of Object.entries(texts)) if (field(name)) field(name).textContent = text;
    ['--run', '--slm-at', '--llm-at'].forEach((name, i) => find('.gauge-track').style.setProperty(name, gauge[i]));
  };

  const drawSeen = inSight(find('.plots'), () => {
    due = performance.now() + 500;
    drawing = drawing.then(drawPlots).catch((error) => console.error(error));
  });

  // The meter follows at once, the plots when their time has come.
  const schedule = perFrame(() => {
    if (latest && !scrubbed) drawMeter(ownMeter());
    clearTimeout(later);
    const wait = latest?.over === false && !latest.figures ? due - performance.now() : 0;
    if (wait > 0) { later = setTimeout(schedule, wait); return; }
    drawSeen();
  });

  // What stays: points up to a token, of another run all at the new threshold.
  const keep = (tokens, threshold = null) => figures.flatMap(({ data }) => data).forEach((trace) => {
    const end = trace.x.findIndex((x) => x > tokens), some = end < 0 ? trace.x.length : end;
    trace.x = trace.x.slice(0, some);
    trace.y = threshold !== null && trace.name === 'threshold' ? trace.x.map(() => threshold) : trace.y.slice(0, some);
  });

  const show = (message, skip, fresh, have) => {
    if (message.figures) figures = message.figures;
    else keep(have, fresh ? message.threshold : null);
    latest = message;
    document.dispatchEvent(new CustomEvent('citer-figures', { detail: { ...ownMeter(), n: message.n } }));
    if (message.over) document.dispatchEvent(new CustomEvent('citer-cost', { detail: message }));
    revision++;
    const known = message.from + (message.figures ? 0 : skip);   // points carry their token's number
    message.points.forEach((traces, i) => traces.forEach(({ x, y }, k) => {
      const first = x.findIndex((token) => token > known), trace = figures[i].data[k];
      if (first < 0) return;
      trace.x = [...trace.x, ...x.slice(first)];
      trace.y = [...trace.y, ...y.slice(first)];
    }));
    schedule();
  };
  openChannel(gradio, show, ({ figures: whole }) => whole).receive();

  listen(element, 'citer-count', ({ detail: { n, tokens, share } }) => {
    counted = { n, words: { tokens, share } };
    if (!scrubbed) for (const [name, words] of Object.entries(counted.words)) say(field(name), words);
  });

  // While the slider scrubs through a sweep, the meter follows as far as is known; the plots are of another text, if of any.
  const follow = (meter, openable = false) => {
    scrubbed = meter !== null;
    const classes = find('.dashboard').classList;
    classes.toggle('elsewhere', scrubbed);
    classes.toggle('unmetered', scrubbed && !meter.gauge);
    classes.toggle('unplotted', scrubbed && !latest);
    classes.toggle('openable', openable);
    if (meter?.gauge) return drawMeter(meter);
    if (latest && !scrubbed) return schedule();
    for (const node of element.querySelectorAll('b[data-field], dd[data-field]')) node.textContent = meter?.[node.dataset.field] ?? '–';   // nothing of another text stays
    field('modelled').textContent = '';
  };
  listen(element, 'citer-text', ({ detail: { figures: meter, run } }) => follow(meter, run !== null));   // else the server has no such text
  listen(element, 'citer-run', () => follow(null));
  document.dispatchEvent(new CustomEvent('citer-text-wanted'));
  onSlider(element, placeSoon);
  onTheme(schedule);
  new ResizeObserver(placeSoon).observe(element);
  (window.requestIdleCallback ?? setTimeout)(schedule);
};
