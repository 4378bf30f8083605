// A sweep over one dial: a strip that shows where the text changes, and LLM share and cost along the dial.
import { make, moveSlider } from '../lib/dom.js';
import { CONFIG, inSight, loadPlotly, themeOf } from '../lib/plot.js';

const GAP = 400;   // milliseconds between two drawings of the chart while texts are written
const SHARE = 0;

// Evenly by row, as the threshold's track is: scores crowd just below 1, and with them the thresholds.
const pieceOf = (texts, row) => {
  const end = texts.line.length - 1, share = texts.message.figures[row]?.[SHARE], piece = make('i');
  const from = Math.max(row - 0.5, 0), to = Math.min(row + 0.5, end);
  piece.style.cssText = `left: ${100 * from / end}%; width: ${100 * (to - from) / end}%; --share: ${share ?? 0}`;
  piece.classList.toggle('open', share === undefined);
  piece.classList.toggle('changes', row > 0 && texts.textOf(row).words !== texts.textOf(row - 1).words);
  return piece;
};

const chart = (texts, { colour, ink, axis, layout }) => {
  const all = texts.line, rows = texts.complete.filter((row) => all.includes(row)), percents = rows.map((row) => texts.percents(row));
  const values = all.map((row) => String(texts.place(row)[texts.over]));
  const ticks = [0, 0.25, 0.5, 0.75, 1].map((part) => Math.round(part * (all.length - 1)));
  const trace = (name, key, line) => ({ type: 'scatter', mode: 'lines+markers', name, x: rows, y: percents.map((row) => row[key]), line,
    marker: { size: 4 }, customdata: rows.map((row) => values[row]), hovertemplate: `${texts.over} %{customdata}: %{y:.0f} %<extra>${name}</extra>` });
  const data = [trace('LLM share', 'share', { width: 2, dash: 'dash', color: colour('--llm-mark') }), trace('cost', 'cost', { width: 2.5, color: ink })];
  const plain = (own) => axis({ ...own, tickfont: { size: 10 }, showline: false });
  return [data, { ...layout, height: 134, margin: { l: 34, r: 18, t: 6, b: 26 }, uirevision: 'keep',
    xaxis: plain({ range: [-0.3, all.length - 0.7], tickvals: ticks, tickangle: 0, ticklabelstandoff: 4,
      ticktext: ticks.map((row) => values[row]) }),
    yaxis: plain({ ticksuffix: '%', rangemode: 'tozero' }) }, CONFIG];
};

// Returns what draws it. `choose` is called before the slider is moved, `plotly` is where Plotly is.
export const startLine = (element, texts, { choose, plotly }) => {
  const strip = element.querySelector('.sweep-strip'), plot = element.querySelector('.sweep-plot');
  let drawn = 0;

  const drawStrip = () => {
    const rows = texts.begun.filter((row) => texts.line.includes(row));
    strip.replaceChildren(...rows.map((row) => pieceOf(texts, row)));
    const changes = strip.querySelectorAll('.changes').length;
    strip.setAttribute('aria-label', `${texts.line.length} settings of the ${texts.over} written, the text changes ${changes} times between them`);
  };

  strip.addEventListener('click', (event) => {
    const box = strip.getBoundingClientRect();
    choose();
    const row = texts.line[Math.round((texts.line.length - 1) * (event.clientX - box.left) / box.width)];
    moveSlider(texts.place(row)[texts.over], texts.over);
  });

  const react = async () => {
    const Plotly = await loadPlotly(plotly);
    if (texts.message?.points.length) await Plotly.react(plot, ...chart(texts, themeOf(element)));
  };
  const drawSeen = inSight(plot, () => {
    drawn = performance.now();
    react().catch((error) => console.error(error));
  });

  return () => {
    drawStrip();
    if (performance.now() - drawn > GAP || !texts.isOn) drawSeen();
  };
};
