// A sweep in the browser: the prefix tree of one prompt's texts, a strip that shows where the text changes, LLM share and
// cost against threshold, and the slider that scrubs through the texts. Every text is written by the token stream.
const note = find('.sweep-note'), strip = find('.sweep-strip'), plot = find('.sweep-plot'), openButton = find('.sweep-open');
const [PARENT, TEXT, SCORE] = [0, 1, 2], [SHARE, BYTES, FLOPS, SECONDS, PRICE] = [0, 1, 2, 3, 4];
const UNITS = { bytes: BYTES, flops: FLOPS, seconds: SECONDS, price: PRICE };
const top = () => Number(slider()?.max) || 1.01;

let nodes = [], latest = null, scrubbing = false, shown = -1, scheduled = false, texts = [];

// A row's tokens from the first on, the range of thresholds that give exactly them, and whether they are complete.
const textOf = (row) => {
  const known = texts[row], leaf = latest.leaves[row];
  if (known?.leaf === leaf) return known;
  const threshold = latest.thresholds[row], path = [];
  let low = -Infinity, high = Infinity;
  for (let at = leaf; at >= 0; at = nodes[at][PARENT]) {
    const [, text, score] = nodes[at], llm = score < threshold;
    path.push([text, llm ? 1 : 0, score, threshold, 0, 0, 0, [], [], 0]);
    if (llm) low = Math.max(low, score); else high = Math.min(high, score);
  }
  return (texts[row] = { leaf, low, high, tokens: path.reverse(), words: path.map(([text]) => text).join('') });
};
const complete = (row) => latest.figures[row] !== null;

// The row whose text is that of a threshold, else the nearest one.
const rowAt = (threshold) => {
  const rows = latest.thresholds.map((_, row) => row).filter((row) => latest.leaves[row] >= 0);
  const exact = rows.find((row) => complete(row) && textOf(row).low < threshold && threshold <= textOf(row).high);
  const distance = (row) => Math.abs(latest.thresholds[row] - threshold);
  return exact ?? rows.reduce((best, row) => (best < 0 || distance(row) < distance(best) ? row : best), -1);
};

// ---- the slider scrubs --------------------------------------------------------------------------------------------------

const scrub = () => {
  if (!scrubbing || !latest) return;
  const threshold = Number.parseFloat(slider().value), row = rowAt(threshold);
  if (row < 0) return;
  const text = textOf(row), exact = complete(row) && text.low < threshold && threshold <= text.high;
  const figures = latest.figures[row], whole = latest.figures.at(-1);
  const cost = figures && whole ? ` · ${Math.round(100 * figures[unit()] / whole[unit()])} % of LLM-only` : '';
  find('.sweep-now span').textContent = (exact ? `exactly ${threshold.toFixed(4)}` : `nearest written: ${latest.thresholds[row].toFixed(4)}`) +
    (figures ? ` · ${Math.round(100 * figures[SHARE])} % LLM${cost}` : ' · still being written');
  openButton.disabled = latest.state === 'running' || latest.state === 'waiting' || !complete(row);
  shown = row;
  document.dispatchEvent(new CustomEvent('citer-text', { detail: {
    tokens: text.tokens, complete: complete(row), threshold: latest.thresholds[row],
    note: exact ? `Sweep: the text at threshold ${threshold.toFixed(4)}` : `Sweep: the text at threshold ${latest.thresholds[row].toFixed(4)}, the nearest written` } }));
};

// ---- strip and chart ----------------------------------------------------------------------------------------------------

const unit = () => UNITS[document.querySelector('#unit input:checked')?.value] ?? BYTES;

const drawStrip = () => {
  const parts = document.createDocumentFragment(), rows = latest.thresholds;
  rows.forEach((threshold, row) => {
    if (latest.leaves[row] < 0) return;
    const piece = document.createElement('i');
    const from = row ? (rows[row - 1] + threshold) / 2 : 0, to = row + 1 < rows.length ? (threshold + rows[row + 1]) / 2 : top();
    piece.style.left = `${100 * from / top()}%`;
    piece.style.width = `${100 * (to - from) / top()}%`;
    const share = latest.figures[row]?.[SHARE];
    piece.style.setProperty('--share', share ?? 0);
    piece.classList.toggle('open', share === undefined);
    piece.classList.toggle('changes', row > 0 && textOf(row).words !== textOf(row - 1).words);
    parts.append(piece);
  });
  strip.replaceChildren(parts);
  const changes = strip.querySelectorAll('.changes').length;
  strip.setAttribute('aria-label', `${rows.length} thresholds written, the text changes ${changes} times between them`);
};

// As few digits as tell them apart, where scores crowd; at least two.
const distinct = (values) => {
  for (let digits = 2; digits < 6; digits++) {
    const texts = values.map((value) => value.toFixed(digits));
    if (new Set(texts).size === texts.length) return texts;
  }
  return values.map((value) => value.toFixed(6));
};

const drawPlot = () => {
  if (!window.Plotly) return void setTimeout(schedule, 250);   // the dashboard is still loading it
  const style = getComputedStyle(element), colour = (name) => style.getPropertyValue(name).trim();
  const rows = latest.thresholds.map((_, row) => row).filter(complete), whole = latest.figures.at(-1);
  // Evenly by row: scores crowd just below 1, and with them the thresholds.
  const all = latest.thresholds, ticks = [0, 0.25, 0.5, 0.75, 1].map((part) => Math.round(part * (all.length - 1)));
  const x = rows, custom = rows.map((row) => all[row].toFixed(4));
  const line = (name, y, look) => ({ type: 'scatter', mode: 'lines+markers', name, x, y, customdata: custom, marker: { size: 4 }, line: look,
    hovertemplate: `threshold %{customdata}: %{y:.0f} %<extra>${name}</extra>` });
  const data = [line('LLM share', rows.map((row) => 100 * latest.figures[row][SHARE]), { width: 2, dash: 'dash', color: colour('--llm-mark') })];
  if (whole) data.push(line('cost', rows.map((row) => 100 * latest.figures[row][unit()] / whole[unit()]), { width: 2.5, color: colour('--body-text-color') }));
  const axis = { gridcolor: colour('--border-color-primary'), zeroline: false, tickfont: { size: 10 }, color: colour('--body-text-color-subdued') };
  window.Plotly.react(plot, data, { height: 134, margin: { l: 34, r: 18, t: 6, b: 26 }, showlegend: false, uirevision: 'keep',
    paper_bgcolor: 'rgba(0,0,0,0)', plot_bgcolor: 'rgba(0,0,0,0)', font: { family: colour('--font') },
    xaxis: { ...axis, range: [-0.3, all.length - 0.7], tickvals: ticks, tickangle: 0, ticklabelstandoff: 4,
      ticktext: distinct(ticks.map((row) => all[row])) },
    yaxis: { ...axis, ticksuffix: '%', rangemode: 'tozero' } },
  { displayModeBar: false, responsive: true });
};

const ENDS = { waiting: 'waiting for the models …', running: 'writing …', stopped: 'stopped; what is there stays', failed: 'failed' };
const draw = () => {
  scheduled = false;
  const rows = latest.thresholds.length, written = latest.figures.filter(Boolean).length;
  find('.sweep-body').hidden = rows === 0;
  note.textContent = latest.note || (latest.state === 'done' ? `${rows} thresholds, ${new Set(latest.leaves).size} texts`
    : `${written} of ${rows || '…'} ${ENDS[latest.state]}`);
  element.dataset.state = latest.state;
  if (!rows) return;
  drawStrip();
  if (performance.now() - drawn > 400 || !isOn()) { drawn = performance.now(); drawPlot(); }
  scrub();
};
let drawn = 0;
const isOn = () => latest.state === 'running' || latest.state === 'waiting';
const schedule = () => { if (!scheduled && latest) { scheduled = true; requestAnimationFrame(draw); } };

// ---- messages and hands -------------------------------------------------------------------------------------------------

const show = (message, skip, fresh) => {
  if (fresh) { nodes = []; texts = []; shown = -1; }
  nodes.push(...message.nodes.slice(skip));
  latest = message;
  schedule();
};
const channel = openChannel(show);

find('.sweep-go').addEventListener('click', () => { scrubbing = true; trigger('sweep'); });
openButton.addEventListener('click', () => { if (shown >= 0) trigger('open_text', { row: shown }); });
strip.addEventListener('click', (event) => {
  const box = strip.getBoundingClientRect(), range = slider();
  if (!scrubbing) { scrubbing = true; trigger('scrub'); }
  range.value = top() * (event.clientX - box.left) / box.width;
  range.dispatchEvent(new Event('input', { bubbles: true }));
});
document.addEventListener('input', (event) => {
  if (element.isConnected && event.target.closest?.('#threshold')) requestAnimationFrame(scrub);
});
document.addEventListener('change', (event) => { if (event.target.closest?.('#unit')) schedule(); });
document.addEventListener('citer-run', () => { scrubbing = false; });   // another text is on the page
new MutationObserver(schedule).observe(document.body, { attributes: true, attributeFilter: ['class'] });
channel.receive();
