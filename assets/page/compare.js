// Draws three texts side by side, the time axis that they share, and what they cost. Every text that came from a model
// is written with textContent. Runs as gradio's js_on_load: element, props, server and watch are given.
const [KEY, TEXT, AUTHOR, SECONDS] = [0, 1, 2, 3];
const LLM = 1, COLUMNS = ['slm', 'middle', 'llm'], TITLES = { slm: 'SLM-only', middle: 'in the middle', llm: 'LLM-only' };
const stateLine = find('.compare-state'), scrub = find('.compare-scrub'), play = find('.compare-play');
const clock = find('.compare-clock'), plot = find('.compare-plot'), cursor = find('.compare-cursor');

const columnOf = (key) => {
  const place = find(`[data-column="${key}"]`);
  return { key, title: place.querySelector('h3'), count: place.querySelector('.compare-count'),
    box: place.querySelector('.compare-text'), tokens: [], spans: [], shown: 0 };
};
const columns = Object.fromEntries(COLUMNS.map((key) => [key, columnOf(key)]));
let latest = null;            // newest message about the comparison on the page
let at = Infinity;            // seconds on the axis up to which tokens are shown
let scheduled = false, clearing = false;

const say = (node, text) => { if (node.textContent !== text) node.textContent = text; };
const over = () => ['done', 'stopped', 'failed'].includes(latest?.state);
const whole = (share) => (share > 0 && share < 0.005 ? '<1\u202f%' : `${Math.round(100 * share)}\u202f%`);
const inSeconds = (value) => `${value < 100 ? Number(value.toPrecision(3)) : Math.round(value)}\u202fs`;
const titleOf = (key) => latest?.texts[key]?.title ?? TITLES[key];
const lastOf = (column) => (column.tokens.length ? column.tokens[column.tokens.length - 1][SECONDS] : 0);
const end = () => Math.max(0, ...COLUMNS.map((key) => lastOf(columns[key])));

// ---- texts ----------------------------------------------------------------------------------------------------------

const spanOf = (token) => {
  const span = make('span', token[AUTHOR] === LLM ? 'w llm' : 'w slm', visible(token[TEXT]));
  if (token[TEXT].includes('\n')) span.classList.add('newline');
  return span;
};

const drawColumn = (column) => {
  const { box, tokens, spans } = column;
  const stick = box.scrollHeight - box.scrollTop - box.clientHeight < 40;
  const added = document.createDocumentFragment();
  for (let i = spans.length; i < tokens.length; i++) {
    spans.push(spanOf(tokens[i]));
    added.append(spans[i]);
  }
  box.append(added);
  const last = spans[spans.length - 1];
  if (latest?.texts[column.key].finish === 'eos' && last && tokens[tokens.length - 1][TEXT] === '') {
    last.classList.add('end');
    last.textContent = 'end';
  }
  if (stick && !over()) box.scrollTop = box.scrollHeight;
};

const clear = () => {
  clearing = false;
  pause();
  at = Infinity;
  for (const key of COLUMNS) {
    Object.assign(columns[key], { spans: [], shown: 0 });
    columns[key].box.replaceChildren();
  }
  find('.compare-sentences').replaceChildren();
};

const EMPTY = { idle: 'The text appears here, every token coloured by the model that wrote it.', stopped: 'Stopped before its first token.',
  failed: 'Nothing was written.' };
const emptyNote = (key) => (key === 'middle' && latest?.texts.router && latest.state === 'running'
  ? 'Chance is written after the router’s text, with the LLM share that it has.' : EMPTY[latest?.state ?? 'idle'] ?? '');

// How much of a column is shown at the time on the axis; only what changed since is touched.
const showUntil = (column, seconds) => {
  const { tokens, spans, box } = column;
  let shown = Math.min(column.shown, spans.length);
  while (shown < spans.length && tokens[shown][SECONDS] <= seconds) spans[shown++].classList.remove('later');
  while (shown > 0 && tokens[shown - 1][SECONDS] > seconds) spans[--shown].classList.add('later');
  for (let i = shown; i < spans.length && !spans[i].classList.contains('later'); i++) spans[i].classList.add('later');
  column.shown = shown;
  if (over() && Number.isFinite(seconds) && shown > 0) {
    const bottom = spans[shown - 1].offsetTop + spans[shown - 1].offsetHeight;
    if (bottom > box.scrollTop + box.clientHeight || bottom < box.scrollTop) box.scrollTop = bottom - box.clientHeight;
  }
  const llm = tokens.slice(0, shown).reduce((sum, token) => sum + token[AUTHOR], 0);
  const all = shown === tokens.length ? `${shown}` : `${shown} of ${tokens.length}`;
  say(column.count, tokens.length ? `${all} tokens · LLM ${whole(shown ? llm / shown : 0)} · ${inSeconds(Math.min(seconds, lastOf(column)))}` : '');
};

const drawDifferences = () => {
  if (!latest?.differs) return;
  for (const key of COLUMNS) {
    const own = new Set(latest.differs[key] ?? []);
    columns[key].spans.forEach((span, i) => span.classList.toggle('differs', own.has(i)));
  }
  const place = find('.compare-sentences');
  if (place.childElementCount === 0) place.append(...latest.sentences.map((text) => make('p', '', text)));
};
const mark = find('.compare-mark input');
const toggleMarks = () => find('.compare').classList.toggle('marking', mark.checked);
mark.addEventListener('change', toggleMarks);

const STATES = { idle: 'Nothing compared yet', waiting: 'Reading the prompt …', running: 'Writing the texts …', done: 'Done', stopped: 'Stopped', failed: 'Failed' };
const drawState = (message = latest) => {
  const state = message?.state ?? 'idle';
  stateLine.dataset.state = state;
  stateLine.dataset.run = message?.n ?? '';
  say(stateLine, message?.note || STATES[state]);
};

// ---- costs ----------------------------------------------------------------------------------------------------------

const ROWS = ['tokens', 'share', 'bytes', 'flops', 'seconds'], ALL = ['slm', 'middle', 'router', 'llm'];
const cells = {};
for (const row of ROWS) {
  for (const key of ALL) {
    const cell = make('td', '', '–');
    cell.dataset.of = key;
    cell.setAttribute('role', 'cell');
    cell.hidden = key === 'router';
    find(`[data-row="${row}"]`).append(cell);
    cells[`${row}/${key}`] = cell;
  }
}

const drawTable = (figures) => {
  const present = new Map(figures.map((column) => [column.key, column]));
  for (const key of ALL) {
    const column = present.get(key);
    element.querySelectorAll(`[data-of="${key}"]`).forEach((cell) => { cell.hidden = !column; });
    if (!column) continue;
    say(find(`th[data-of="${key}"]`), column.title);
    for (const row of ROWS) {
      const value = column[row], cell = cells[`${row}/${key}`];
      if (!Array.isArray(value)) say(cell, value);
      else cell.replaceChildren(make('b', '', value[0]), ' ', make('span', '', value[1]));
    }
  }
};

// ---- the time axis --------------------------------------------------------------------------------------------------

const MARGIN = { l: 52, r: 14, t: 8, b: 38, autoexpand: false }, GAP = 400;   // milliseconds between two drawings while writing
const colour = (name) => getComputedStyle(element).getPropertyValue(name).trim();
const STROKES = { slm: ['--slm-mark', 'dot', 2], middle: ['--body-text-color', 'solid', 2.5], llm: ['--llm-mark', 'dash', 2] };

const traceOf = (key) => {
  const [ink, dash, width] = STROKES[key];
  return { type: 'scatter', mode: 'lines', name: titleOf(key), line: { shape: 'hv', color: colour(ink), dash, width },
    x: [0, ...columns[key].tokens.map((token) => token[SECONDS])], y: [0, ...columns[key].tokens.map((_, i) => i + 1)],
    hovertemplate: '%{fullData.name}: %{y} tokens by %{x:.3g} s<extra></extra>' };
};

const figure = () => {
  const ink = colour('--body-text-color'), soft = colour('--body-text-color-subdued'), line = colour('--border-color-primary');
  const axis = (text, own) => ({ ...own, gridcolor: line, linecolor: line, zeroline: false, fixedrange: true, color: soft,
    tickfont: { size: 11 }, title: { text, standoff: 4, font: { size: 11, color: soft } } });
  const last = end();
  const layout = { height: 220, margin: MARGIN, showlegend: false, hovermode: 'closest', dragmode: false,
    paper_bgcolor: 'rgba(0,0,0,0)', plot_bgcolor: 'rgba(0,0,0,0)', font: { family: colour('--font'), color: ink, size: 12 },
    hoverlabel: { bgcolor: colour('--block-background-fill'), bordercolor: line, font: { color: ink } },
    xaxis: axis('modelled seconds', { range: [0, last || 1], tickformat: '~g', ticksuffix: ' s', tickangle: 0,
      nticks: Math.max(3, Math.floor(plot.clientWidth / 80)), showticklabels: last > 0 }),
    yaxis: axis('tokens', { rangemode: 'tozero', ...(last > 0 ? {} : { range: [0, 1], showticklabels: false }) }) };
  return [['llm', 'slm', 'middle'].map(traceOf), layout];
};

let drawing = Promise.resolve(), due = 0, timer = null;
const drawPlot = () => {
  if (timer !== null) return;
  timer = setTimeout(() => {
    timer = null;
    due = performance.now() + GAP;
    drawing = drawing.then(async () => {
      const Plotly = await plotly;
      if (plot.clientWidth > 0) await Plotly.react(plot, ...figure(), { displayModeBar: false, responsive: true });
      placeCursor();
    }).catch((error) => console.error(error));
  }, Math.max(0, due - performance.now()));
};

// An element of ours over the plot: moving it costs Plotly nothing.
const placeCursor = () => {
  const last = end(), { l, r, t, b } = MARGIN;
  cursor.hidden = !(last > 0 && over() && Number.isFinite(at));
  const left = plot.offsetLeft + l + (plot.clientWidth - l - r) * Math.min(1, at / (last || 1));
  Object.assign(cursor.style, { left: `${left}px`, top: `${plot.offsetTop + t}px`, height: `${plot.clientHeight - t - b}px` });
};

const drawTime = () => {
  if (clearing) return;   // the columns still show what is no longer there
  const last = end(), now = Math.min(at, last), ready = over() && last > 0;
  for (const key of COLUMNS) showUntil(columns[key], at);
  for (const control of [scrub, play]) control.disabled = !ready;
  scrub.value = last > 0 ? Math.round((1000 * now) / last) : 1000;
  const text = last > 0 ? `${inSeconds(now)} of ${inSeconds(last)}` : '–';
  say(clock, text);
  scrub.setAttribute('aria-valuetext', text);
  placeCursor();
};

const moveTo = (seconds) => { at = seconds >= end() ? Infinity : seconds; drawTime(); };

let frame = null;
const pause = () => {
  if (frame !== null) cancelAnimationFrame(frame);
  frame = null;
  say(play, 'Play');
};
// Only ever started by a hand, so that nothing moves by itself.
const start = () => {
  let now = Number.isFinite(at) ? at : 0, before = null;
  say(play, 'Pause');
  const tick = (stamp) => {
    if (!element.isConnected) return pause();
    now += before === null ? 0 : ((stamp - before) / 1000) * Number(find('.compare-pace').value);
    before = stamp;
    moveTo(now);
    if (now >= end()) return pause();
    frame = requestAnimationFrame(tick);
  };
  frame = requestAnimationFrame(tick);
};
play.addEventListener('click', () => (frame === null ? start() : pause()));
scrub.addEventListener('input', () => { pause(); moveTo((end() * scrub.value) / 1000); });

// ---- messages -------------------------------------------------------------------------------------------------------

const draw = () => {
  scheduled = false;
  if (clearing) clear();
  drawState();
  for (const key of COLUMNS) {
    const column = columns[key];
    say(column.title, titleOf(key));
    say(find(`th[data-of="${key}"]`), titleOf(key));
    column.box.dataset.empty = emptyNote(key);
    drawColumn(column);
  }
  say(find('.compare-middle'), titleOf('middle'));
  drawDifferences();
  if (latest?.figures) drawTable(latest.figures);
  drawTime();
  drawPlot();
};
const schedule = () => { if (!scheduled) { scheduled = true; requestAnimationFrame(draw); } };

const show = (message, skip, fresh) => {
  if (fresh && message.count === 0) return drawState(message);   // keep the last texts until there are new ones
  if (fresh) { for (const key of COLUMNS) columns[key].tokens = []; clearing = true; }
  latest = { ...message, figures: message.figures ?? (fresh ? null : latest?.figures) };
  for (const token of message.tokens.slice(skip)) columns[token[KEY]].tokens.push(token);
  schedule();
};

const channel = openChannel(show);
new MutationObserver(drawPlot).observe(document.body, { attributes: true, attributeFilter: ['class'] });
new ResizeObserver(drawPlot).observe(plot);   // also when its tab is opened
toggleMarks();
draw();
channel.receive();
