// The text on the page: its tokens, a span for each of them, and the tokens that are pointed at.
import { isOver } from '../lib/channel.js';
import { make } from '../lib/dom.js';
import { visible } from '../lib/format.js';
import { AUTHOR, FORCED, isDraft, TAKEN, TEXT } from '../lib/threshold.js';
import { spanOf } from './token.js';

// The drafts that were taken back stand struck through before the token that took their place.
const struckOf = (token) => (token[TAKEN] ?? []).map((text) => make('del', '', visible(text).replaceAll('\n', '↵')));

const MARKUP = /[`|]|\*\*|^\s*(?:#{1,6}|[-*+]|\d+\.) |\$[^\s$](?:[^$]*[^\s$])?\$(?!\d)|\\[a-z([]/m;   // Markdown or maths, but no prices

const numberedSpan = (token, index) => {
  const span = spanOf(token[TEXT], token[AUTHOR]);
  span.dataset.i = index;
  span.classList.toggle('forced', Boolean(token[FORCED]));
  span.prepend(...struckOf(token));
  return span;
};

const looksLike = (a, b) => b !== undefined && a[TEXT] === b[TEXT] && a[AUTHOR] === b[AUTHOR] && a[FORCED] === b[FORCED]
  && String(a[TAKEN] ?? '') === String(b[TAKEN] ?? '');

export class Text {
  tokens = [];
  message = null;        // the newest about this text
  foreign = false;       // whether it is a recorded text, which no session has
  awaited = false;       // whether another text is requested that has no token yet
  hasMarkup = false;     // in the text that was drawn last
  focused = -1;
  pinned = -1;
  #drawn = [];           // the tokens of the spans

  constructor(box) { this.box = box; }

  get spans() { return this.box.childNodes; }

  get over() { return this.message !== null && isOver(this.message.state); }

  get words() { return this.tokens.map((token) => token[TEXT]).join(''); }

  get branchable() { return this.over && !this.message.fixed; }

  isEnd(index) {
    return this.message?.finish === 'eos' && index === this.tokens.length - 1 && this.tokens[index]?.[TEXT] === '';
  }

  get visibleTokens() { return this.isEnd(this.tokens.length - 1) ? this.tokens.slice(0, -1) : this.tokens; }   // a person does not count the end

  mark(className, index) {
    this.box.querySelector(`.${className}`)?.classList.remove(className);
    this.spans[index]?.classList.add(className);
  }

  // The first spans stay as long as their tokens look the same, with their focus and their pin.
  draw() {
    const { box, spans, tokens, words } = this, differs = this.#drawn.findIndex((token, i) => !looksLike(token, tokens[i]));
    if (differs >= 0) this.#cut(differs);
    const from = spans.length;
    box.append(...tokens.slice(from).map((token, i) => numberedSpan(token, from + i)));
    this.#drawn = tokens;
    spans.forEach((span, i) => span.classList.toggle('draft', isDraft(tokens[i])));
    const last = spans.length - 1;
    spans[last]?.classList.toggle('end', this.isEnd(last));
    box.classList.toggle('code', /```|^ {4}\S/m.test(words));
    this.hasMarkup = MARKUP.test(words);
  }

  // Removes what `preview.js` has marked.
  unmark() { for (const span of this.spans) span.classList.remove('flip', 'stale'); }

  #cut(from) {
    while (this.spans.length > from) this.box.lastChild.remove();
    this.unmark();
    if (this.focused >= from) this.focused = -1;
    if (this.pinned >= from) this.pinned = -1;
    this.box.dispatchEvent(new CustomEvent('cut'));
  }
}
