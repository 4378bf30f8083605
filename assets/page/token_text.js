// Draws the generated text token by token. Every text that came from a model is written with textContent. The scripts of
// the token stream run one after the other in one scope, as gradio's js_on_load: element, props, server, trigger and
// watch are given. Order: dom, channel, token_text, difference, preview, inspector, audit, branches, token_stream.
const SLM = 0, LLM = 1, NAMES = ['SLM', 'LLM'];
const [TEXT, AUTHOR, SCORE, THRESHOLD, SLM_FED, LLM_FED, MILLIS, SLM_TOP, LLM_TOP, FORCED, SLM_BITS, LLM_BITS] =
  [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11];
const box = find('.stream-text'), stateLine = find('.stream-state'), previewLine = find('.stream-preview');
const inspector = find('.inspector');

let tokens = [], spans = [], drawn = 0, counts = [0, 0];
let latest = null;                       // newest message about the run on the page
let focused = -1, pinned = -1, hovered = -1;
let foreign = false, changed = new Set();   // whether the text is a sweep's, and what differs from the one before
let marked = [];                         // the spans that show the difference
let scheduled = false, cut = -1;         // where the text is cut off before the next token is drawn

const spelled = (text) => visible(text).replace(/ /g, '·').replace(/\n/g, '⏎').replace(/\t/g, '⇥') || '(nothing yet)';
const number = (value, digits = 2) => value.toFixed(digits);
const rounded = (share) => (share > 0 && share < 0.005 ? '<1 %' : `${Math.round(100 * share)} %`);
const percent = (share) => (share > 0 && share < 0.0005 ? '<0.1 %' : `${(100 * share).toFixed(share > 0 && share < 0.0995 ? 1 : 0)} %`);

// ---- text -----------------------------------------------------------------------------------------------------------

const isEnd = (index) => !foreign && latest?.finish === 'eos' && index === tokens.length - 1 && tokens[index][TEXT] === '';

const spanOf = (token, index) => {
  const span = make('span', token[AUTHOR] === LLM ? 't llm' : 't slm', visible(token[TEXT]));
  if (token[FORCED]) span.classList.add('forced');
  span.dataset.i = index;
  if (token[TEXT].includes('\n') && token[AUTHOR] === LLM) span.classList.add('newline');
  if (token[TEXT] === '') span.classList.add('empty');
  return span;
};

const draw = () => {
  scheduled = false;
  if (cut >= 0) clear(cut);
  const stick = box.scrollHeight - box.scrollTop - box.clientHeight < 40;
  const added = document.createDocumentFragment();
  for (; drawn < tokens.length; drawn++) {
    spans.push(spanOf(tokens[drawn], drawn));
    added.append(spans[drawn]);
  }
  box.append(added);
  const last = spans.length - 1;
  if (last >= 0 && isEnd(last) && !spans[last].classList.contains('end')) {
    spans[last].classList.add('end');
    spans[last].textContent = 'end';
  }
  for (const span of marked.splice(0)) span.classList.remove('changed');
  if (foreign) marked = [...changed].map((index) => spans[index]).filter(Boolean);
  for (const span of marked) span.classList.add('changed');
  if (stick) box.scrollTop = 1e9;
  drawCounts();
  drawState();
  drawAudit();
  drawBranches();
  drawChanges();
  if (pinned < 0 && focused < 0 && hovered < 0) inspect(-1);
};

// Takes away what another run or threshold has changed; what stays keeps its place, its focus and its pin.
const clear = (from) => {
  cut = -1;
  for (const span of spans.splice(from)) span.remove();
  for (const span of spans) span.classList.remove('flip', 'stale');
  drawn = Math.min(drawn, from);
  if (focused >= from) focused = -1;
  if (pinned >= from) pinned = -1;
  hovered = -1;
  if (from === 0) box.scrollTop = 0;
  previewLine.textContent = '';
};

const schedule = () => { if (!scheduled) { scheduled = true; requestAnimationFrame(draw); } };

// Looked up once: a search goes through all tokens, and this is drawn with each of them.
const readouts = Object.fromEntries(['slm', 'llm', 'all'].map((name) => [name, find(`[data-count="${name}"]`)]));
const jumps = element.querySelectorAll('[data-kind="llm"] [data-jump]');
const drawCounts = () => {
  const all = counts[SLM] + counts[LLM];
  const say = (name, text) => { readouts[name].textContent = text; };
  say('slm', all ? `${counts[SLM]} · ${percent(counts[SLM] / all)}` : '–');
  say('llm', all ? `${counts[LLM]} · ${percent(counts[LLM] / all)}` : '–');
  say('all', all ? `${all} tokens` : '');
  jumps.forEach((button) => { button.disabled = counts[LLM] === 0; });
};

// Whether a text stands there that nothing is being added to.
const over = () => Boolean(latest) && latest.state !== 'running' && latest.state !== 'waiting';

const ENDS = { eos: 'Done: the text ended itself', stop: 'Done: a stop string came up',
  length: 'Done: the token limit is reached', cancelled: 'Stopped' };
const drawState = (message = latest) => {
  const state = message?.state ?? 'idle';
  stateLine.dataset.state = state;
  stateLine.dataset.run = message?.n ?? '';
  const said = message?.note || {
    idle: 'Nothing written yet', waiting: 'Reading the prompt …', running: 'Writing …', stopped: 'Stopped',
    failed: 'Failed', done: ENDS[message?.finish] ?? 'Done' }[state];
  if (stateLine.textContent !== said) stateLine.textContent = said;   // the same text anew would be laid out anew
  document.dispatchEvent(new CustomEvent('citer-shown', { detail: { run: latest?.run ?? null, state, tokens: tokens.length } }));
};
