// The inspector: who wrote a token and why, what both models would have written, and the way to a branch.

const branchable = () => over() && !latest.fixed;

const candidates = (author, list, index) => {
  const line = make('div', 'candidates');
  const head = make('h4', author === LLM ? 'key-llm' : 'key-slm', NAMES[author]);
  const bits = tokens[index][author === LLM ? LLM_BITS : SLM_BITS];
  if (typeof bits === 'number') {
    head.append(make('small', '', `${number(bits, bits < 9.95 ? 1 : 0)} bits`));
    head.title = `Entropy of the ${NAMES[author]}’s choice here: 0 bits is certain`;
  }
  line.append(head);
  if (!list.length) line.append(make('p', 'unknown', author === LLM ? 'not asked here yet' : 'not computed for this token'));
  for (const [text, probability, id] of list) {
    const chosen = author === tokens[index][AUTHOR] && text === tokens[index][TEXT];
    const row = make('button', 'candidate');
    row.type = 'button';
    row.disabled = chosen || !branchable();
    if (!row.disabled) row.title = `Go on from here with this token, as the ${NAMES[author]}’s`;
    Object.assign(row.dataset, { author, id, index });
    const bar = make('i');
    bar.style.width = `${Math.round(100 * probability)}%`;
    const word = make('code', chosen ? 'chosen' : '', spelled(text));
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
  if (token[FORCED]) line.append(make('span', '', 'chosen by you'));
  else if (token[SCORE] === null) line.append(make('span', '', `no score: policy “${latest?.policy}”`));
  else {
    const sign = token[SCORE] < token[THRESHOLD] ? '<' : '≥';
    line.append(make('span', '', `score ${number(token[SCORE], 4)} ${sign} threshold ${number(token[THRESHOLD], 4)} → ${NAMES[author]}`));
  }
  const caught = token[LLM_FED] > 1 ? ` (${token[LLM_FED] - 1} to catch up)` : '';
  if (foreign) return line;
  line.append(make('span', 'dim', `SLM read ${token[SLM_FED]}, LLM read ${token[LLM_FED]}${caught} · ${token[MILLIS]} ms`));
  line.append(make('span', 'dim cost', costs.get(`${latest.n}/${index}`) ?? ''));
  return line;
};

const HINT = 'Point at a token, or focus the text and use the arrow keys, to see who wrote it and why. Click pins it, and its candidates branch the text.';
let inspected = null;
const inspect = (index) => {
  const token = tokens[index];
  const key = token ? `${index}/${token[SLM_TOP].length}/${token[LLM_TOP].length}/${latest?.n}/${over()}` : `none/${tokens.length > 0}`;
  if (key === inspected) return;
  inspected = key;
  if (!token) return inspector.replaceChildren(make('p', 'hint', tokens.length ? HINT : 'Details of each token appear here.'));
  const rows = [SLM, LLM].map((author) => candidates(author, token[author === LLM ? LLM_TOP : SLM_TOP], index));
  inspector.replaceChildren(facts(index), ...rows);
  askCost(index);
};

// What a token cost is the engine's to say; asked for where someone stays for a moment.
const costs = new Map();
let asking = 0;
const askCost = (index) => {
  clearTimeout(asking);
  if (foreign) return;
  const key = `${latest.n}/${index}`;
  if (costs.has(key)) return;
  asking = setTimeout(async () => {
    const answer = await server.token_cost({ run: latest.run, index });
    if (!answer) return;
    costs.set(key, answer);
    if (key === `${latest.n}/${index}` && inspected?.startsWith(`${index}/`)) inspector.querySelector('.cost')?.replaceChildren(answer);
  }, 120);
};
inspector.addEventListener('click', (event) => {
  const { author, id, index } = event.target.closest('.candidate:not(:disabled)')?.dataset ?? {};
  if (id !== undefined) trigger('change_text', { kind: 'branch', number: Number(index), author: Number(author), token: Number(id) });
});

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

// The next LLM token, or the next one that an audit marked.
const nextPlace = (kind, from, step) => {
  if (kind === 'llm') return nextOf(LLM, from, step);
  const places = latest?.audit?.[kind] ?? [];
  return (step > 0 ? places.find((i) => i > from) : places.findLast((i) => i < from)) ?? from;
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
  const button = event.target.closest('[data-jump]'), step = Number(button?.dataset.jump ?? 0);
  if (!step) return;
  const from = pinned >= 0 ? pinned : step > 0 ? -1 : tokens.length;
  const target = nextPlace(button.closest('[data-kind]').dataset.kind, from, step);
  if (!spans[target]) return;
  pinned = target;
  mark('pinned', target);
  spans[target].scrollIntoView({ block: 'nearest' });
  inspect(target);
});
