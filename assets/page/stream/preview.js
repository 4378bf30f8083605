// What other dials would change, while a hand is on them: decisions that would flip are outlined, what follows
// the first is dimmed as not yet true, what the LLM would have to read first is marked as a draft, and the nearest
// thresholds that change the text can be jumped to.
import { shortThreshold } from '../lib/curve.js';
import { dialAt, listen, moveSlider, onSlider, perFrame, releaseSliders, slider } from '../lib/dom.js';
import { counted } from '../lib/format.js';
import { AUTHOR, authorAt, FORCED, isDraft, isRefusal, keptAt, RATIO, SCORE, SLM } from '../lib/threshold.js';
import { scaleOfText } from '../points/scale.js';
import { stopsBeside } from '../points/track.js';

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

// Returns what draws the buttons to the nearest changes, and has the track spaced by a text of its own that has ended.
export const startPreview = (text, { element }) => {
  const line = element.querySelector('.stream-preview'), buttons = [...element.querySelectorAll('[data-change]')];

  const draw = () => {
    const threshold = dialAt('threshold'), acceptance = dialAt('acceptance');
    if (text.foreign || !text.over) return;
    const { flipped, unread, first } = changes(text, threshold, acceptance, (i, marks) => {
      for (const [name, on] of Object.entries(marks)) text.spans[i]?.classList.toggle(name, on);
    });
    line.classList.toggle('changes', flipped + unread > 0);
    line.textContent = unread ? `the LLM is to read ${counted(unread, 'drafted token')}`
      : flipped ? `${counted(flipped, 'decision')} would flip, the first at token ${first + 1}`
        : text.tokens.length ? 'Same text at these dials' : '';
  };
  const preview = perFrame(draw);

  for (const dial of ['threshold', 'acceptance']) onSlider(element, preview, dial);
  listen(element, 'citer-commit', draw);   // whether there is something to write is read off the tokens then
  text.box.addEventListener('cut', () => { line.textContent = ''; });
  buttons.forEach((button) => button.addEventListener('click', () => {
    moveSlider(Number(button.value));
    releaseSliders();
  }));

  let spaced = null, scale = null;   // by which text the track is spaced, and how: not where nothing has a score
  const space = () => {
    if (text.foreign) spaced = null;
    const all = `${text.message?.n}/${text.tokens.length}`;
    if (text.foreign || !text.over || spaced === all) return;
    spaced = all;
    scale = scaleOfText(text.tokens, Number(slider().max));
    document.dispatchEvent(new CustomEvent('citer-scale', { detail: { text: scale } }));
  };

  return () => {
    space();
    const scaled = text.foreign ? text.message.swept !== 'acceptance' : scale && !text.message.fixed;
    const known = text.over && text.tokens.length && scaled;
    (known ? stopsBeside(dialAt('threshold')) : [null, null]).forEach((change, i) => {
      buttons[i].disabled = change === null;
      buttons[i].value = change ?? '';
      buttons[i].querySelector('span').textContent = change === null ? '–' : shortThreshold(change);
    });
  };
};
