// The time axis that the texts share: its plot, the cursor over it, and the player that moves along it.
import { say } from '../lib/dom.js';
import { seconds } from '../lib/format.js';
import { CONFIG, inSight, loadPlotly, onTheme, themeOf } from '../lib/plot.js';
import { SECONDS } from './column.js';
import { startFilm } from './film.js';

const MARGIN = { l: 52, r: 14, t: 8, b: 38, autoexpand: false }, GAP = 400;   // milliseconds between two drawings while writing
const STROKES = { llm: ['--llm-mark', 'dash', 2], slm: ['--slm-mark', 'dot', 2], middle: ['--body-text-color', 'solid', 2.5] };

const traceOf = ({ key, title, tokens }, colour) => {
  const [ink, dash, width] = STROKES[key];
  return { type: 'scatter', mode: 'lines', name: title, line: { shape: 'hv', color: colour(ink), dash, width },
    x: [0, ...tokens.map((token) => token[SECONDS])], y: [...Array(tokens.length + 1).keys()],
    hovertemplate: '%{fullData.name}: %{y} tokens by %{x:.3g} s<extra></extra>' };
};

const layoutOf = ({ axis, layout }, last, width) => {
  const fixed = (text, own) => axis({ ...own, fixedrange: true, title: { text, standoff: 4 } });
  return { ...layout, height: 220, margin: MARGIN, dragmode: false,
    xaxis: fixed('modelled seconds', { range: [0, last || 1], tickformat: '~g', ticksuffix: ' s', tickangle: 0,
      nticks: Math.max(3, Math.floor(width / 80)), showticklabels: last > 0 }),
    yaxis: fixed('tokens', { rangemode: 'tozero', ...(last > 0 ? {} : { range: [0, 1], showticklabels: false }) }) };
};

export const startTime = ({ element, props }, columns) => {
  const part = (name) => element.querySelector(`.compare-${name}`);
  const [plot, cursor, scrub, play] = ['plot', 'cursor', 'scrub', 'play'].map(part);
  const lines = Object.keys(STROKES).map((key) => columns.find((column) => column.key === key));
  let at = Infinity;   // seconds on the axis up to which tokens are shown
  let over = false, drawing = Promise.resolve(), due = 0, timer = null, frame = null;

  const film = startFilm(part('film'), element, () => columns.map(({ title, tokens }) => ({ title, tokens: [...tokens] })));

  const end = () => Math.max(...columns.map((column) => column.end));

  // An element of ours over the plot: moving it costs Plotly nothing.
  const placeCursor = () => {
    const { l, r, t, b } = MARGIN, left = plot.offsetLeft + l + (plot.clientWidth - l - r) * Math.min(1, at / (end() || 1));
    cursor.hidden = !(end() > 0 && over && Number.isFinite(at));
    Object.assign(cursor.style, { left: `${left}px`, top: `${plot.offsetTop + t}px`, height: `${plot.clientHeight - t - b}px` });
  };

  const react = async () => {
    const Plotly = await loadPlotly(props.plotly), theme = themeOf(element), width = plot.clientWidth, traces = lines.map((line) => traceOf(line, theme.colour));
    if (width > 0) await Plotly.react(plot, traces, layoutOf(theme, end(), width), CONFIG);
    placeCursor();
  };
  const drawPlot = inSight(plot, () => {
    timer ??= setTimeout(() => {
      timer = null;
      due = performance.now() + GAP;
      drawing = drawing.then(react).catch((error) => console.error(error));
    }, Math.max(0, due - performance.now()));
  });

  const moveTo = (time) => {
    const last = end(), now = Math.min(time, last), text = last > 0 ? `${seconds(now)} of ${seconds(last)}` : '–';
    at = time >= last ? Infinity : time;
    for (const column of columns) column.showUntil(at, over);
    scrub.disabled = play.disabled = !(over && last > 0);
    film(over && last > 0);
    scrub.value = last > 0 ? Math.round((1000 * now) / last) : 1000;
    scrub.setAttribute('aria-valuetext', text);
    say(part('clock'), text);
    placeCursor();
  };

  const pause = () => {
    cancelAnimationFrame(frame);
    frame = null;
    say(play, 'Play');
  };
  const run = () => {
    let before = null;
    const tick = (stamp) => {
      moveTo(at + ((stamp - (before ?? stamp)) / 1000) * Number(part('pace').value));
      if (at === Infinity || !element.isConnected) return pause();
      before = stamp;
      frame = requestAnimationFrame(tick);
    };
    if (at === Infinity) moveTo(0);
    say(play, 'Pause');
    frame = requestAnimationFrame(tick);
  };
  play.addEventListener('click', () => (frame === null ? run() : pause()));   // nothing moves by itself
  scrub.addEventListener('input', () => {
    pause();
    moveTo((end() * scrub.value) / 1000);
  });
  new ResizeObserver(drawPlot).observe(plot);   // also when its tab is opened
  onTheme(drawPlot);

  return {
    draw(isOver) {
      over = isOver;
      moveTo(at);
      drawPlot();
    },
    reset() {
      pause();
      at = Infinity;
    },
  };
};
