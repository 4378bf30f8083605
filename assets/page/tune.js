// Tune on my prompts: progress, the curve, the picker and what is taken away. Draws what the server sends of a tuning; the
// parts before this one do the work. Every text is written with textContent. Runs as gradio's js_on_load.
const say = (selector, text) => {
  const target = find(selector);
  if (target.textContent !== text) target.textContent = text;
};
let latest = null;   // the newest message, for its progress
let shown = null;    // the newest with a curve: while another run has none yet, the one before stays
let picked = null, chosenKind = null, scheduled = false, drawing = Promise.resolve();

const unitNow = () => find('[name="tune-unit"]:checked').value;
const kindNow = () => (shown.curves.right === null ? 'same' : chosenKind ?? 'right');
const curveNow = () => shown.curves[kindNow()];

const STATES = { waiting: 'waiting', running: 'measuring', done: 'done', stopped: 'stopped', failed: 'failed' };

const drawProgress = () => {
  const state = find('.tune-state'), bar = find('progress');
  state.dataset.state = latest.state;
  const text = latest.state === 'waiting' ? latest.note : `${STATES[latest.state]} · ${latest.note}`;
  if (state.textContent !== text) state.textContent = text;
  bar.hidden = latest.state === 'failed';
  bar.max = latest.total;
  bar.value = latest.done;
  if (find('.tune-live').dataset.state !== `${latest.n} ${latest.state}`) say('.tune-live', text);   // not every step of it
  find('.tune-live').dataset.state = `${latest.n} ${latest.state}`;
  find('.tune-body').hidden = shown === null;
  find('.tune-empty').hidden = shown !== null;
  find('.tune-old').hidden = shown === null || shown.n === latest.n;
};

// ---- the picked point -------------------------------------------------------------------------------------------------

const pick = () => {
  const { points } = curveNow(), unit = unitNow(), place = placeInHand(points, unit), values = valuesAt(points, place);
  // A number that was typed is the threshold itself; one beyond the curve's end is LLM-only.
  const threshold = hand?.name === 'threshold' && hand.value <= 1 ? hand.value : shortThreshold(values[THRESHOLD]);
  picked = { place, values, threshold, policy: policyOf(shown, points, place), measured: place === Math.floor(place) };
};

const sentence = () => {
  const { points, questions } = curveNow(), kind = kindNow(), unit = unitNow(), { values } = picked, llm = points.at(-1);
  const quality = kind === 'right' ? `${wholePercent(values[QUALITY])} right (LLM alone ${wholePercent(llm[QUALITY])})`
    : `${wholePercent(values[QUALITY])} agreement with the LLM-only text`;
  return `Threshold ${picked.threshold}: ${quality}, ${wholePercent(values[SHARE])} LLM tokens, `
    + `${wholePercent(relative(points, values, unit))} of its ${UNIT_SHORT[unit]}, on ${questions} prompt${questions === 1 ? '' : 's'}.`;
};

const FEW = 20;
const footnote = () => {
  const { points, questions } = curveNow(), { values, measured } = picked, notes = [];
  notes.push(`95\u202f% interval ${wholePercent(values[LOW])} to ${wholePercent(values[HIGH])}.`);
  if (!measured) notes.push('Between two measured thresholds: read off the straight line.');
  if (picked.policy !== shown.about.policy) notes.push(`An end of the dial: the ${picked.policy.toUpperCase()} alone.`);
  if (hand?.name === 'budget' && 100 * relative(points, values, unitNow()) < hand.value - 0.5) notes.push('More cost buys no more on this curve.');
  if (hand?.name === 'budget' && 100 * relative(points, values, unitNow()) > hand.value + 0.5) notes.push('Nothing on this curve is so cheap.');
  if (questions < FEW) notes.push(`On ${questions} prompt${questions === 1 ? '' : 's'} an interval says little: give ${FEW} or more.`);
  return notes.join(' ');
};

const drawPick = () => {
  const { points } = curveNow(), unit = unitNow(), nearest = Math.round(picked.place);
  drawHandles(points, unit, picked.place);
  say('.tune-said', sentence());
  say('.tune-how', footnote());
  find('[data-take="settings"]').value = settingsText(picked);
  find('[data-take="link"]').value = linkText(picked);
  if (listed.open) drawPrompts(kindNow(), nearest, `threshold ${shortThreshold(points[nearest][THRESHOLD])}`, textOf);
};

// ---- around it --------------------------------------------------------------------------------------------------------

const drawAbout = () => {
  const { about, shipped } = shown, kind = kindNow(), { questions } = curveNow();
  const of = kind === 'right' && questions < shown.done ? ` (${questions} with an answer)` : '';
  const what = kind === 'right' ? props.rule : 'Agreement is 1 − edit distance to the LLM-only text, in tokens of the longer text: 100\u202f% is the same text.';
  const beside = shipped ? `Dashed: the router as it was shipped, right answers on ${shipped.questions} ${shipped.task} questions with ${shipped.pair}${kind === 'same' ? '; not agreement, so compare the shapes' : ''}.` : '';
  say('.tune-about', `Your prompts: ${shown.done} of ${shown.total}${of}, ${about.pair} on ${about.device}, scored by ${about.scored_by}`
    + `${about.router ? ` ${about.router}` : ''}, greedy, at most ${about.max_new_tokens} tokens; bars are 95\u202f% bootstrap intervals over prompts.`);
  say('.tune-rule', what);
  say('.tune-beside', beside);
  const legend = find('.tune-shipped');
  legend.hidden = !shipped;
  legend.textContent = shipped ? `router as shipped (${shipped.task})` : '';
  for (const radio of element.querySelectorAll('[name="tune-kind"]')) {
    radio.checked = radio.value === kind;
    radio.disabled = shown.curves[radio.value] === null;
  }
};

const drawTable = () => {
  const { points } = curveNow(), names = ['threshold', QUALITY_NAMES[kindNow()], '95 % interval', 'LLM share', ...Object.values(UNIT_NAMES)];
  const cells = (tag, texts) => texts.map((text) => node(tag, '', text));
  const row = (children) => { const made = node('tr', ''); made.append(...children); return made; };
  find('.tune-table thead').replaceChildren(row(cells('th', names)));
  find('.tune-table tbody').replaceChildren(...points.map((point) => row(cells('td', [
    String(shortThreshold(point[THRESHOLD])), wholePercent(point[QUALITY]), `${wholePercent(point[LOW])} to ${wholePercent(point[HIGH])}`, wholePercent(point[SHARE]),
    ...Object.keys(UNITS).map((unit) => wholePercent(relative(points, point, unit)))]))));
};

const drawChart = async () => {
  const Plotly = await plotly, plot = find('.tune-plot'), { points } = curveNow(), unit = unitNow(), kind = kindNow();
  const first = !plot.data;
  await Plotly.react(plot, traces(points, shown.shipped?.points, unit, picked.values), chartLayout(kind, unit), CHART_CONFIG);
  if (!first) return;
  plot.on('plotly_click', ({ points: [hit] }) => {
    const at = { 1: hit.pointNumber, 2: 0, 4: curveNow().points.length - 1 }[hit.curveNumber];
    if (at === undefined) return;
    hand = { name: 'threshold', value: curveNow().points[at][THRESHOLD] };
    schedule();
  });
};

const draw = () => {
  scheduled = false;
  if (!latest) return;
  drawProgress();
  if (shown === null) return;
  pick();
  drawAbout();
  drawPick();
  drawTable();
  drawing = drawing.then(drawChart).catch((error) => console.error(error));
};
const schedule = () => { if (!scheduled) { scheduled = true; requestAnimationFrame(draw); } };

const textOf = async (one) => {
  const at = Math.round(picked.place);
  one.shown = at;
  const answer = await server.text_of({ run: shown.run, row: one.number, point: at });
  if (one.shown !== at) return;
  if (!answer) { one.text.textContent = 'This text is not kept any more.'; return; }
  const { prompt, text } = JSON.parse(answer);
  one.text.replaceChildren(node('span', 'tune-text-prompt', `${prompt}\n\n`), text);
};

// ---- news and hands ---------------------------------------------------------------------------------------------------

const show = (message, skip) => {
  latest = message;
  if (message.curves.same !== null) {
    if (shown !== null && shown.n !== message.n) { forgetPrompts(); hand = null; }
    shown = message;
  }
  message.prompts.slice(skip).forEach((prompt) => addPrompt(prompt, textOf));
  schedule();
};
openChannel(show).receive();

listenToHandles(() => ({ points: curveNow().points, unit: unitNow() }), schedule);
for (const radio of element.querySelectorAll('[name="tune-unit"]')) radio.addEventListener('change', schedule);
for (const radio of element.querySelectorAll('[name="tune-kind"]')) radio.addEventListener('change', () => { chosenKind = radio.value; schedule(); });
listed.addEventListener('toggle', schedule);

for (const button of element.querySelectorAll('[data-copy]')) button.addEventListener('click', async () => {
  say('.tune-done', await copy(find(`[data-take="${button.dataset.copy}"]`)) ? 'Copied.' : 'Selected: copy it with the keyboard.');
});
find('[data-save="json"]').addEventListener('click', () => save('citer-operating-point.json', 'application/json', jsonText(shown, kindNow(), picked, unitNow())));
find('[data-save="csv"]').addEventListener('click', () => save('citer-curve.csv', 'text/csv;charset=utf-8', csvText(shown, kindNow())));

new MutationObserver(schedule).observe(document.body, { attributes: true, attributeFilter: ['class'] });
// A tab that is not shown has no width to draw in.
new ResizeObserver(() => { const plot = find('.tune-plot'); if (plot.data && plot.offsetWidth) window.Plotly.Plots.resize(plot); }).observe(element);
