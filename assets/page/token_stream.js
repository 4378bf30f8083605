// What the server says about the text on the page, and when it is drawn.

const show = (message, skip, fresh, kept) => {
  if (fresh && message.count === 0 && !message.kept) return drawState(message);   // keep the last text until there is a new one
  if (fresh) {
    foreign = false;
    document.dispatchEvent(new CustomEvent('citer-run'));
    tokens.length = kept;
    tokens.forEach((token) => { token[THRESHOLD] = message.threshold; });
    counts = [0, 0];
    for (const token of tokens) counts[token[AUTHOR]]++;
    cut = cut < 0 ? kept : Math.min(cut, kept);
    inspected = null;
  }
  latest = { ...message, branches: message.branches ?? (fresh && !kept ? [] : latest?.branches) };
  for (const token of message.tokens.slice(skip)) { tokens.push(token); counts[token[AUTHOR]]++; }
  for (const [index, author, list, bits] of message.revealed) {
    if (tokens[index]) Object.assign(tokens[index], author === LLM ? { [LLM_TOP]: list, [LLM_BITS]: bits } : { [SLM_TOP]: list, [SLM_BITS]: bits });
  }
  schedule();
};

// A text of a sweep, shown without asking the server; what differs from the text before it is marked.
document.addEventListener('citer-text', ({ detail }) => {
  if (!element.isConnected) return;
  const same = (a, b) => a[TEXT] === b[TEXT] && a[AUTHOR] === b[AUTHOR];
  const next = detail.tokens, old = tokens;
  let kept = 0;
  while (kept < old.length && kept < next.length && same(old[kept], next[kept])) kept++;
  if (foreign && kept === old.length && kept === next.length && latest.note === detail.note) return;
  tokens = next.slice();
  counts = [0, 0];
  for (const token of tokens) counts[token[AUTHOR]]++;
  cut = cut < 0 ? kept : Math.min(cut, kept);
  changed = old.length ? differing(old, next) : new Set();
  foreign = true;
  channel.forget();
  inspected = null;
  latest = { n: '', state: detail.complete ? 'done' : 'running', note: detail.note, finish: detail.complete ? 'eos' : null,
    fixed: true, policy: '', branches: [], revealed: [], tokens: [] };
  schedule();
});

const channel = openChannel(show);
drawState();
drawCounts();
drawAudit();
inspect(-1);
channel.receive();
