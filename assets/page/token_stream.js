// Draws the generated text token by token, and says about each who wrote it and why. Every text that came from a model
// is written with textContent. Runs as gradio's js_on_load: element, props, server and watch are given.
const SLM = 0, LLM = 1, NAMES = ['SLM', 'LLM'];
const [TEXT, AUTHOR, SCORE, THRESHOLD, SLM_FED, LLM_FED, MILLIS, SLM_TOP, LLM_TOP] = [0, 1, 2, 3, 4, 5, 6, 7, 8];
const find = (selector) => element.querySelector(selector);
const box = find('.stream-text'), stateLine = find('.stream-state'), previewLine = find('.stream-preview');
const inspector = find('.inspector');

let tokens = [], spans = [], drawn = 0, counts = [0, 0];
let latest = null;                       // newest message about the run on the page
let focused = -1, pinned = -1, hovered = -1;
let scheduled = false, clearing = false;

const make = (tag, className, text) => {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
};

// Control characters become visible symbols: an escape sequence must neither act nor vanish.
const symbol = (code) => (code < 0x20 ? String.fromCodePoint(0x2400 + code) : code === 0x7f ? '␡' : '�');
const visible = (text) => text.replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/g, (c) => symbol(c.charCodeAt(0)));
const spelled = (text) => visible(text).replace(/ /g, '·').replace(/\n/g, '⏎').replace(/\t/g, '⇥') || '(nothing yet)';
const number = (value, digits = 2) => value.toFixed(digits);
const rounded = (share) => (share > 0 && share < 0.005 ? '<1 %' : `${Math.round(100 * share)} %`);
const percent = (share) => (share > 0 && share < 0.0005 ? '<0.1 %' : `${(100 * share).toFixed(share > 0 && share < 0.0995 ? 1 : 0)} %`);

// ---- text -----------------------------------------------------------------------------------------------------------

const isEnd = (index) => latest?.finish === 'eos' && index === tokens.length - 1 && tokens[index][TEXT] === '';

const spanOf = (token, index) => {
  const span = make('span', token[AUTHOR] === LLM ? 't llm' : 't slm', visible(token[TEXT]));
  span.dataset.i = index;
  if (token[TEXT].includes('\n') && token[AUTHOR] === LLM) span.classList.add('newline');
  if (token[TEXT] === '') span.classList.add('empty');
  return span;
};

const draw = () => {
  scheduled = false;
  if (clearing) clear();
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
  if (stick) box.scrollTop = box.scrollHeight;
  drawCounts();
  drawState();
  if (pinned < 0 && focused < 0 && hovered < 0) inspect(-1);
};

const clear = () => {
  clearing = false;
  spans = []; drawn = 0; focused = pinned = hovered = -1;
  box.replaceChildren();
  box.scrollTop = 0;
  previewLine.textContent = '';
};

const schedule = () => { if (!scheduled) { scheduled = true; requestAnimationFrame(draw); } };

const drawCounts = () => {
  const all = counts[SLM] + counts[LLM];
  const say = (name, text) => { find(`[data-count="${name}"]`).textContent = text; };
  say('slm', all ? `${counts[SLM]} · ${percent(counts[SLM] / all)}` : '–');
  say('llm', all ? `${counts[LLM]} · ${percent(counts[LLM] / all)}` : '–');
  say('all', all ? `${all} tokens` : '');
  element.querySelectorAll('[data-jump]').forEach((button) => { button.disabled = counts[LLM] === 0; });
};

const ENDS = { eos: 'Done: the text ended itself', stop: 'Done: a stop string came up',
  length: 'Done: the token limit is reached', cancelled: 'Stopped' };
const drawState = (message = latest) => {
  const state = message?.state ?? 'idle';
  stateLine.dataset.state = state;
  stateLine.dataset.run = message?.n ?? '';
  stateLine.textContent = message?.note || {
    idle: 'Nothing written yet', waiting: 'Reading the prompt …', running: 'Writing …', stopped: 'Stopped',
    failed: 'Failed', done: ENDS[message?.finish] ?? 'Done' }[state];
};

// ---- what would change at the slider's position -----------------------------------------------------------------------

const preview = (threshold) => {
  const ready = latest && latest.state !== 'running' && latest.state !== 'waiting';
  if (!ready || Number.isNaN(threshold)) return;
  let flips = 0, first = -1;
  spans.forEach((span, i) => {
    const score = tokens[i][SCORE];
    const flip = score !== null && (score < threshold ? LLM : SLM) !== tokens[i][AUTHOR];
    if (flip) { flips++; if (first < 0) first = i; }
    span.classList.toggle('flip', flip);
    span.classList.toggle('stale', first >= 0 && i > first);
  });
  previewLine.classList.toggle('changes', flips > 0);
  previewLine.textContent = flips === 0 ? (tokens.length ? 'Same text at this threshold' : '')
    : `${flips} ${flips === 1 ? 'decision' : 'decisions'} would flip, the first at token ${first + 1}`;
};

let wanted = null;
document.addEventListener('input', (event) => {
  if (!element.isConnected || !event.target.closest?.('#threshold')) return;
  const first = wanted === null;
  wanted = Number.parseFloat(event.target.value);
  if (first) requestAnimationFrame(() => { const value = wanted; wanted = null; preview(value); });
});

// ---- inspector --------------------------------------------------------------------------------------------------------

const candidates = (author, list, chosen) => {
  const line = make('div', 'candidates');
  line.append(make('h4', author === LLM ? 'key-llm' : 'key-slm', NAMES[author]));
  if (!list.length) line.append(make('p', 'unknown', author === LLM ? 'not asked here yet' : 'not computed for this token'));
  for (const [text, probability] of list) {
    const row = make('div', 'candidate');
    const bar = make('i');
    bar.style.width = `${Math.round(100 * probability)}%`;
    const word = make('code', text === chosen ? 'chosen' : '', spelled(text));
    row.append(bar, word, make('span', '', rounded(probability)));
    line.append(row);
  }
  return line;
};

const facts = (index) => {
  const token = tokens[index], author = token[AUTHOR];
  const line = make('div', 'facts');
  line.append(make('code', author === LLM ? 'chip llm' : 'chip slm', isEnd(index) ? 'end' : spelled(token[TEXT])));
  const by = make('span', '', `token ${index + 1}, written by the `);
  by.append(make('b', '', NAMES[author]));
  line.append(by);
  if (token[SCORE] === null) line.append(make('span', '', `no score: policy “${latest?.policy}”`));
  else {
    const sign = token[SCORE] < token[THRESHOLD] ? '<' : '≥';
    line.append(make('span', '', `score ${number(token[SCORE], 3)} ${sign} threshold ${number(token[THRESHOLD])} → ${NAMES[author]}`));
  }
  const caught = token[LLM_FED] > 1 ? ` (${token[LLM_FED] - 1} to catch up)` : '';
  line.append(make('span', 'dim', `SLM read ${token[SLM_FED]}, LLM read ${token[LLM_FED]}${caught} · ${token[MILLIS]} ms`));
  return line;
};

const HINT = 'Point at a token, or focus the text and use the arrow keys, to see who wrote it and why. Click pins it.';
let inspected = null;
const inspect = (index) => {
  const token = tokens[index];
  const key = token ? `${index}/${token[SLM_TOP].length}/${token[LLM_TOP].length}/${latest?.n}` : `none/${tokens.length > 0}`;
  if (key === inspected) return;
  inspected = key;
  if (!token) return inspector.replaceChildren(make('p', 'hint', tokens.length ? HINT : 'Details of each token appear here.'));
  const rows = [SLM, LLM].map((author) => candidates(author, token[author === LLM ? LLM_TOP : SLM_TOP], token[TEXT]));
  inspector.replaceChildren(facts(index), ...rows);
};

const mark = (className, index) => {
  box.querySelector(`.${className}`)?.classList.remove(className);
  spans[index]?.classList.add(className);
};
const current = () => (hovered >= 0 ? hovered : focused >= 0 ? focused : pinned);

const focusToken = (index) => {
  if (!spans.length) return;
  focused = Math.max(0, Math.min(spans.length - 1, index));
  hovered = -1;
  mark('focused', focused);
  box.querySelector('[id="focused-token"]')?.removeAttribute('id');
  spans[focused].id = 'focused-token';
  box.setAttribute('aria-activedescendant', 'focused-token');
  spans[focused].scrollIntoView({ block: 'nearest' });
  inspect(focused);
};

const pin = (index) => { pinned = index === pinned ? -1 : index; mark('pinned', pinned); inspect(current()); };

const nextOf = (author, from, step) => {
  for (let i = from + step; i >= 0 && i < tokens.length; i += step) if (tokens[i][AUTHOR] === author) return i;
  return from;
};

box.addEventListener('pointerover', (event) => {
  const at = event.target.closest('.t');
  hovered = at ? Number(at.dataset.i) : -1;
  inspect(current());
});
box.addEventListener('pointerleave', () => { hovered = -1; inspect(current()); });
box.addEventListener('click', (event) => {
  const at = event.target.closest('.t');
  if (at) { focusToken(Number(at.dataset.i)); pin(focused); }
});
box.addEventListener('blur', () => { mark('focused', -1); focused = -1; inspect(current()); });
box.addEventListener('keydown', (event) => {
  const at = focused >= 0 ? focused : pinned;
  const moves = { ArrowRight: () => at + 1, ArrowLeft: () => at - 1, Home: () => 0, End: () => spans.length - 1,
    ArrowDown: () => nextOf(LLM, at, 1), ArrowUp: () => nextOf(LLM, at, -1) };
  if (moves[event.key]) { focusToken(moves[event.key]()); event.preventDefault(); }
  else if (event.key === 'Enter' && focused >= 0) pin(focused);
  else if (event.key === 'Escape') pin(-1);
});
element.addEventListener('click', (event) => {
  const step = Number(event.target.closest('[data-jump]')?.dataset.jump ?? 0);
  if (!step) return;
  const from = pinned >= 0 ? pinned : step > 0 ? -1 : tokens.length;
  const target = nextOf(LLM, from, step);
  if (!spans[target]) return;
  pinned = target;
  mark('pinned', target);
  spans[target].scrollIntoView({ block: 'nearest' });
  inspect(target);
});

// ---- messages ---------------------------------------------------------------------------------------------------------

const show = (message, skip, fresh) => {
  if (fresh && message.count === 0) return drawState(message);   // keep the last text until there is a new one
  if (fresh) { tokens = []; counts = [0, 0]; clearing = true; inspected = null; }
  latest = message;
  for (const token of message.tokens.slice(skip)) { tokens.push(token); counts[token[AUTHOR]]++; }
  for (const [index, author, list] of message.revealed) {
    if (tokens[index]) tokens[index][author === LLM ? LLM_TOP : SLM_TOP] = list;
  }
  schedule();
};

const channel = openChannel((data) => server[props.resend_name](data), show);
const receive = () => { if (props.value) channel.accept(JSON.parse(props.value)); };
watch('value', receive);
drawState();
drawCounts();
inspect(-1);
receive();
