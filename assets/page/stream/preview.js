// Shows what the dials would change, while a hand moves them. Decisions that would flip are outlined, the text behind the first of them
// has paler colours, and tokens that the LLM would read first are marked as drafts.
import { announce, dialAt, listen, onSlider, perFrame } from '../lib/dom.js';
import { AUTHOR, authorAt, FORCED, isDraft, isRefusal, keptAt, RATIO, SCORE, SLM } from '../lib/threshold.js';

const flips = (token, threshold, acceptance) => {
  if (token[FORCED]) return false;
  const author = token[SCORE] === null ? token[AUTHOR] : authorAt(token[SCORE], threshold);
  if (isRefusal(token)) return (token[SCORE] === null || author === SLM) && keptAt(token[RATIO], acceptance);
  return author !== token[AUTHOR] || (author === SLM && !keptAt(token[RATIO] ?? null, acceptance));
};

// Counts what other dials would change in a text. Returns how many decisions flip, where the first of them is (Infinity if there is
// none), and how many tokens the LLM would read first. Calls `each` with every token's index and marks.
export const changes = ({ tokens }, threshold, acceptance, each = () => {}) => {
  let flipped = 0, unread = 0, first = Infinity;
  tokens.forEach((token, i) => {
    const flip = flips(token, threshold, acceptance), draft = !flip && i < first && isDraft(token, acceptance);
    if (flip && flipped++ === 0) first = i;
    unread += draft;
    each(i, { flip, draft, stale: i > first });
  });
  return { flipped, unread, first };
};

export const startPreview = (text, { element }) => {
  const draw = () => {
    if (text.foreign) return;
    if (!text.over) return announce('citer-preview', { flipped: 0, unread: 0, first: Infinity, over: false });   // the dials change only what is written from now on
    const found = changes(text, dialAt('threshold'), dialAt('acceptance'), (i, { flip, draft, stale }) => {
      const span = text.spans[i];
      for (const [name, on] of Object.entries({ flip, draft, stale })) span?.classList.toggle(name, on);
    });
    announce('citer-preview', { ...found, over: true });
  };
  const preview = perFrame(draw);
  for (const dial of ['threshold', 'acceptance']) onSlider(element, preview, dial);
  listen(element, 'citer-commit', () => {
    draw();
    if (!text.over) text.unmark();
  });
};
