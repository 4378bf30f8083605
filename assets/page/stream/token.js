// A token on this page and on an exported one: its span, its candidates, and in words why a model wrote it.
import { make } from '../lib/dom.js';
import { apart, isBreak, rounded, spelled, visible } from '../lib/format.js';
import { AUTHOR, authorAt, FORCED, isDraft, isRefusal, LLM, RATIO, SCORE, TAKEN, THRESHOLD } from '../lib/threshold.js';

export const WORDS = ['small model', 'large model'];

export const spanOf = (text, author, className = 't') => {
  const span = make('span', `${className} ${author === LLM ? 'llm' : 'slm'}`, visible(text));
  span.classList.toggle('newline', author === LLM && isBreak(text));
  return span;
};

export const candidateParts = ([word, probability], isChosen) => {
  const bar = make('i');
  bar.style.width = `${Math.round(100 * probability)}%`;
  return [bar, make('code', isChosen ? 'chosen' : '', spelled(word)), make('span', '', rounded(probability))];
};

// The index of the LLM's next token in a direction, or `from` if there is none.
export const nextOf = (tokens, from, step) => {
  for (let i = from + step; i >= 0 && i < tokens.length; i += step) if (tokens[i][AUTHOR] === LLM) return i;
  return from;
};

export const decision = (token, policy) => {
  if (token[FORCED]) return 'chosen by hand';
  if (token[SCORE] === null) return policy ? `no score: ${policy === 'slm' || policy === 'llm' ? 'one model alone' : policy}` : '';
  const author = authorAt(token[SCORE], token[THRESHOLD]), [score, threshold] = apart(token[SCORE], token[THRESHOLD]);
  return `score ${score} ${author === LLM ? '<' : '≥'} threshold ${threshold} → ${WORDS[author]}`;
};

// What the large model made of the small one's draft at this place.
export const verdict = (token) => {
  if (isDraft(token)) return 'a draft: the large model has not read it yet';
  if (typeof token[RATIO] !== 'number') return '';
  const likely = `${Number(token[RATIO].toPrecision(2))} times as likely to the large model as its own choice`;
  if (isRefusal(token)) return `taken back: ‘${spelled(token[TAKEN]?.[0] ?? '')}’, ${likely}`;
  return token[RATIO] === 1 ? 'the large model’s own choice, too' : `kept: ${likely}`;
};
