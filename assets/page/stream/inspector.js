// The inspector: who wrote a token and why, what both models would have written, and the way to a branch.
import { listen, make, makeButton } from '../lib/dom.js';
import { apart, rounded, spelled } from '../lib/format.js';
import {
  AUTHOR, authorAt, FORCED, isDraft, isRefusal, LLM, LLM_BITS, LLM_FED, LLM_TOP, MILLIS, NAMES, RATIO, SCORE, SLM, SLM_BITS, SLM_FED,
  SLM_TOP, TAKEN, TEXT, THRESHOLD,
} from '../lib/threshold.js';

const LOOK = 120;   // milliseconds on a token before its cost is asked for
const FOREIGN = 'What else both models would have written here is known of a text that is written or opened.';
const RECORDED = 'A recorded text holds no candidates: what else both models would have written here is known of a text of your own.';
const EMPTY = 'Details of each token appear here.';
const POINT = 'Point at a token, or focus the text and use the arrow keys, to see who wrote it and why. Click pins it';

const hintOf = ({ tokens, message }) => (!tokens.length ? EMPTY : message.recorded ? `${POINT}. ${RECORDED}`
  : message.fixed ? `${POINT}.` : `${POINT}, and its candidates branch the text.`);

const decision = (token, policy) => {
  if (token[FORCED]) return 'chosen by you';
  if (token[SCORE] === null) return `no score: policy “${policy}”`;
  const author = authorAt(token[SCORE], token[THRESHOLD]), sign = author === LLM ? '<' : '≥';
  const [score, threshold] = apart(token[SCORE], token[THRESHOLD]);
  return `score ${score} ${sign} threshold ${threshold} → ${NAMES[author]}`;
};

// What the LLM said about the token that the SLM drafted here.
const verdict = (token) => {
  if (isDraft(token)) return 'a draft: the LLM has not read it yet';
  if (typeof token[RATIO] !== 'number') return '';
  const likely = `the LLM finds it ${Number(token[RATIO].toPrecision(2))} × as likely as its own choice`;
  if (isRefusal(token)) return `taken back: ‘${spelled(token[TAKEN][0] ?? '')}’, ${likely}`;
  return token[RATIO] === 1 ? 'kept: the LLM’s own choice, too' : `kept: ${likely}`;
};

const headOf = (author, bits) => {
  const head = make('div', author === LLM ? 'author key-llm' : 'author key-slm', NAMES[author]);
  if (typeof bits === 'number') {
    head.append(make('small', '', `${bits.toFixed(bits < 9.95 ? 1 : 0)} bits`));
    head.title = `Entropy of the ${NAMES[author]}’s choice here: 0 bits is certain`;
  }
  return head;
};

const facts = (text, index, cost) => {
  const token = text.tokens[index], author = token[AUTHOR], line = make('div', 'facts'), by = make('span', '', `token ${index + 1}, written by the `);
  by.append(make('b', '', NAMES[author]));
  const chip = make('code', author === LLM ? 'chip llm' : 'chip slm', text.isEnd(index) ? 'end' : spelled(token[TEXT]));
  line.append(chip, by, make('span', '', decision(token, text.message?.policy)), make('span', 'verdict', verdict(token)));
  if (text.foreign) return line;
  const caught = token[LLM_FED] > 1 ? ` (${token[LLM_FED] - 1} to catch up)` : '';
  line.append(make('span', 'dim', `SLM read ${token[SLM_FED]}, LLM read ${token[LLM_FED]}${caught} · ${token[MILLIS]} ms`));
  line.append(make('span', 'dim cost', cost ?? ''));
  return line;
};

// Returns what shows a token, of that number or of none.
export const startInspector = (text, { element, server, trigger }) => {
  const place = element.querySelector('.inspector');
  let inspected = null, asking = 0, costs = new Map(), view = 0;

  const candidate = ([word, probability, id], author, index) => {
    const token = text.tokens[index], chosen = author === token[AUTHOR] && word === token[TEXT];
    const row = makeButton('candidate'), bar = make('i');
    row.disabled = chosen || !text.branchable;
    if (!row.disabled) row.title = `Go on from here with this token, as the ${NAMES[author]}’s`;
    Object.assign(row.dataset, { author, id });
    row.addEventListener('click', () => trigger('change_text', { kind: 'branch', number: index, author, token: id }));
    bar.style.width = `${Math.round(100 * probability)}%`;
    row.append(bar, make('code', chosen ? 'chosen' : '', spelled(word)), make('span', '', rounded(probability)));
    return row;
  };

  const candidates = (author, index) => {
    const token = text.tokens[index], line = make('div', 'candidates');
    const [list, bits] = author === LLM ? [token[LLM_TOP], token[LLM_BITS]] : [token[SLM_TOP], token[SLM_BITS]];
    line.append(headOf(author, bits), ...list.map((one) => candidate(one, author, index)));
    if (!list.length) line.append(make('p', 'unknown', text.message.fixed ? 'not kept with this text'
      : author === LLM ? 'not asked here yet' : 'not computed for this token'));
    return line;
  };

  // What a token cost is the engine's to say; asked for where someone stays for a moment.
  const askCost = (index) => {
    clearTimeout(asking);
    const { n, run } = text.message, key = `${n}/${index}`, known = costs;
    if (text.foreign || known.has(key)) return;
    asking = setTimeout(async () => {
      const answer = await server.token_cost({ run, index });
      if (!answer || known !== costs) return;
      known.set(key, answer);
      if (n === text.message.n && inspected?.startsWith(`${index}/`)) place.querySelector('.cost')?.replaceChildren(answer);
    }, LOOK);
  };

  const inspect = (index) => {
    const token = text.tokens[index], { message, over } = text;
    const key = token ? [index, token[SLM_TOP].length, token[LLM_TOP].length, token[RATIO], message?.n, message?.note, over].join('/') : hintOf(text);
    if (key === inspected) return;
    inspected = key;
    if (!token) return place.replaceChildren(make('p', 'hint', hintOf(text)));
    const known = text.foreign ? [make('p', 'hint', message.recorded ? RECORDED : FOREIGN)] : [candidates(SLM, index), candidates(LLM, index)];
    place.replaceChildren(facts(text, index, costs.get(`${message.n}/${index}`)), ...known);
    askCost(index);
  };

  // What was said holds in one unit, at one price, and of the token that stood there.
  const forget = () => {
    costs = new Map();
    inspected = null;
  };
  const askAgain = () => {
    forget();
    inspect(text.current);
  };
  text.box.addEventListener('cut', forget);   // it is drawn, and inspected, right after
  listen(element, 'input', ({ target }) => { if (target.closest?.('#view-card')) askAgain(); });
  listen(element, 'citer-cost', ({ detail }) => {   // asked for before the server had heard of it, it may be the old one
    if (detail.view === view) return;
    ({ view } = detail);
    askAgain();
  });
  return inspect;
};
