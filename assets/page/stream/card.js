// A token's card says who wrote the token and why, and what both models would have written. A click on a candidate goes on with it.
import { listen, make, makeButton } from '../lib/dom.js';
import { spelled } from '../lib/format.js';
import { AUTHOR, LLM, LLM_TOP, RATIO, SLM, SLM_TOP, TEXT } from '../lib/threshold.js';
import { candidateParts, decision, verdict, WORDS } from './token.js';

const GAP = 6;   // pixels
const RECORDED = 'This text was recorded. Generate it to write on from a token.';

export const startCard = (text, { element, trigger }) => {
  const card = element.querySelector('.token-card');
  let drawn = '';

  const branch = (number, author, token) => trigger('change_text', { kind: 'branch', number, author, ...(token === undefined ? {} : { token }) });

  const candidate = ([word, probability, id], author, index) => {
    const token = text.tokens[index], chosen = author === token[AUTHOR] && word === token[TEXT];
    const row = makeButton('candidate');
    row.disabled = chosen || !text.branchable;
    row.title = row.disabled ? '' : 'Write on from here with this token';
    row.addEventListener('click', () => branch(index, author, id));
    Object.assign(row.dataset, { author, id });
    row.append(...candidateParts([word, probability], chosen));
    return row;
  };

  const candidates = (author, index) => {
    const list = text.tokens[index][author === LLM ? LLM_TOP : SLM_TOP], column = make('div', 'candidates');
    column.append(make('p', author === LLM ? 'card-of key-llm' : 'card-of key-slm', WORDS[author]), ...list.map((each) => candidate(each, author, index)));
    if (!list.length) column.append(make('p', 'unknown', text.message.fixed ? 'not kept with this text' : `not asked here${text.foreign ? '' : ' yet'}`));
    return column;
  };

  const contents = (index) => {
    const token = text.tokens[index], author = token[AUTHOR], other = author === LLM ? SLM : LLM, { message } = text;
    const head = make('div', 'card-head'), close = makeButton('card-close', '×');
    close.setAttribute('aria-label', 'Close');
    close.addEventListener('click', () => element.dispatchEvent(new CustomEvent('citer-close')));
    const chip = make('code', author === LLM ? 'chip llm' : 'chip slm', text.isEnd(index) ? 'end of the text' : spelled(token[TEXT]));
    head.append(chip, make('span', '', `by the ${WORDS[author]}`), close);
    const parts = [head, make('p', 'card-why', [decision(token, message?.policy), verdict(token)].filter(Boolean).join(' · '))];
    const columns = make('div', 'card-columns');
    columns.append(candidates(SLM, index), candidates(LLM, index));
    if (text.foreign) return [...parts, columns, make('p', 'card-why', RECORDED)];
    const give = makeButton('small-button card-give', `Give this token to the ${WORDS[other]}`);
    give.addEventListener('click', () => branch(index, other));
    return [...parts, columns, ...(text.branchable ? [give] : [])];
  };

  const place = (index) => {
    const token = text.spans[index].getClientRects(), box = element.querySelector('.stream').getBoundingClientRect(), at = token[token.length - 1];
    const left = Math.max(0, Math.min(at.left - box.left, box.width - card.offsetWidth));
    const above = at.bottom + GAP + card.offsetHeight > innerHeight && token[0].top > card.offsetHeight;
    Object.assign(card.style, { left: `${left}px`, top: `${above ? token[0].top - box.top - GAP - card.offsetHeight : at.bottom - box.top + GAP}px` });
  };

  const show = () => {
    const index = text.pinned, token = text.tokens[index];
    const key = token ? [index, token[TEXT], token[SLM_TOP].length, token[LLM_TOP].length, token[RATIO], text.message?.n, text.over].join('/') : '';
    card.hidden = !token || !text.spans[index];
    if (key !== drawn && token) card.replaceChildren(...contents(index));
    drawn = key;
    if (!card.hidden) place(index);
  };
  new ResizeObserver(() => { if (!card.hidden && text.spans[text.pinned]) place(text.pinned); }).observe(text.box);
  listen(element, 'keydown', (event) => {
    if (event.key !== 'Escape' || card.hidden || !card.contains(event.target)) return;
    event.preventDefault();
    element.dispatchEvent(new CustomEvent('citer-close'));
  }, true);
  return show;
};
