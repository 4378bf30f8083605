// What other dials would change, while a hand is on them: decisions that would flip are outlined, what follows
// the first is dimmed as not yet true, and what the LLM would have to read first is marked as a draft.
import { dialAt, listen, onSlider, perFrame } from '../lib/dom.js';
import { AUTHOR, authorAt, FORCED, isDraft, isRefusal, keptAt, RATIO, SCORE, SLM } from '../lib/threshold.js';

// Whether the other model would write it.
const flips = (token, threshold, acceptance) => {
  if (token[FORCED]) return false;
  const author = token[SCORE] === null ? token[AUTHOR] : authorAt(token[SCORE], threshold);
  if (isRefusal(token)) return (token[SCORE] === null || author === SLM) && keptAt(token[RATIO], acceptance);
  return author !== token[AUTHOR] || (author === SLM && !keptAt(token[RATIO] ?? null, acceptance));
};

// What other dials would change in a text: where the first decision flips (Infinity: nowhere), how many do, and how many
// tokens the LLM would have to read first.
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

// Marks what the dials would change, and tells it, while a hand is on them.
export const startPreview = (text, { element }) => {
  const draw = () => {
    if (text.foreign) return;
    const found = changes(text, dialAt('threshold'), dialAt('acceptance'), (i, { flip, draft, stale }) => {
      const span = text.spans[i];
      span?.classList.toggle('flip', flip);
      if (!span || !text.over) return;   // what is there while a text is written stays
      span.classList.toggle('draft', draft);
      span.classList.toggle('stale', stale);
    });
    document.dispatchEvent(new CustomEvent('citer-preview', { detail: { ...found, over: text.over } }));
  };
  const preview = perFrame(draw);
  for (const dial of ['threshold', 'acceptance']) onSlider(element, preview, dial);
  listen(element, 'citer-commit', () => {
    draw();   // whether there is something to write is read off the tokens then
    if (!text.over) for (const span of text.spans) span.classList.remove('flip');
  });
};
