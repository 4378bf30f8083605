// One of the three texts, shown up to a moment of its writing.
import { finder, say } from '../lib/dom.js';
import { counted, percent, seconds } from '../lib/format.js';
import { llmShare } from '../lib/threshold.js';
import { choice, costOf, UNITS } from '../slider/cost.js';
import { spanOf } from '../stream/token.js';

export const [KEY, TEXT, AUTHOR, SECONDS] = Array(4).keys();   // columns of a token; KEY names the text that it belongs to

export class Column {
  tokens = [];
  ends = false;   // whether the last token is the end of the text
  #cost = null;

  constructor(place) {
    this.key = place.dataset.column;
    [this.heading, this.count, this.verdict, this.box] = ['h2', '.compare-count', '.compare-verdict', '.compare-text'].map(finder(place));
  }

  // The end of the text is a token, but a person would not count it.
  get visibleTokens() { return this.tokens.slice(0, this.tokens.length - Number(this.ends)); }

  get end() { return this.tokens.at(-1)?.[SECONDS] ?? 0; }

  clear() {
    this.tokens = [];
    this.box.replaceChildren();
    this.conclude();
  }

  draw(emptyNote, ended, over) {
    this.ends = ended && this.tokens.at(-1)?.[TEXT] === '';
    const { box, tokens } = this, atBottom = box.scrollHeight - box.scrollTop - box.clientHeight < 40;
    box.dataset.empty = emptyNote;
    box.append(...tokens.slice(box.children.length).map((token) => spanOf(token[TEXT], token[AUTHOR], 'w')));
    if (atBottom && !over) box.scrollTop = box.scrollHeight;
  }

  conclude(costs = null, verdict = '') {
    this.#cost = costs && costOf(costs);
    say(this.verdict, verdict);
    this.verdict.dataset.right = verdict.startsWith('✓') ? 'yes' : verdict.startsWith('✗') ? 'no' : '';
  }

  // Shows the tokens that are written by a time. If the text is `over`, it also scrolls to the last of them.
  showUntil(time, over) {
    const { tokens, box } = this, spans = [...box.children], written = tokens.filter((token) => token[SECONDS] <= time), shown = written.length;
    spans.forEach((span, i) => span.classList.toggle('later', i >= shown));
    if (over && Number.isFinite(time) && shown > 0) {
      const { offsetTop, offsetHeight } = spans[shown - 1], bottom = offsetTop + offsetHeight;
      if (bottom > box.scrollTop + box.clientHeight || bottom < box.scrollTop) box.scrollTop = bottom - box.clientHeight;
    }
    const all = shown === tokens.length, visible = written.slice(0, this.visibleTokens.length);
    const parts = [counted(all ? visible.length : `${shown} of ${this.visibleTokens.length}`, 'token'), ...(this.key === 'middle' && visible.length ? [`${percent(llmShare(visible.map((token) => token[AUTHOR])))} by the large model`] : []),
      ...(all && this.#cost !== null ? [`${percent(this.#cost)} of the large model’s ${UNITS[choice.unit]}`] : []), seconds(Math.min(time, this.end))];
    say(this.count, tokens.length ? parts.join(' · ') : '');
  }
}
