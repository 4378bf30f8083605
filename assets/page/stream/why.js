// Why a model wrote a token, in words: on this page and on an exported one.
import { apart, spelled } from '../lib/format.js';
import { authorAt, FORCED, isDraft, isRefusal, LLM, RATIO, SCORE, TAKEN, THRESHOLD } from '../lib/threshold.js';

export const WORDS = ['small model', 'large model'];

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
  const likely = `to the large model ${Number(token[RATIO].toPrecision(2))} × as likely as its own choice`;
  if (isRefusal(token)) return `taken back: ‘${spelled(token[TAKEN]?.[0] ?? '')}’, ${likely}`;
  return token[RATIO] === 1 ? 'the large model’s own choice, too' : `kept: ${likely}`;
};
