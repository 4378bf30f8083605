// The text on the page: its tokens, a span for each of them, and which of them are pointed at.
import { make } from '../lib/dom.js';
import { isBreak, visible } from '../lib/format.js';
import { AUTHOR, FORCED, isDraft, LLM, TAKEN, TEXT } from '../lib/threshold.js';

// What was taken back in a token's place, to stand before it.
const struckOf = (token) => (token[TAKEN] ?? []).map((text) => make('del', '', visible(text).replaceAll('\n', '↵')));

const spanOf = (token, index) => {
  const llm = token[AUTHOR] === LLM, span = make('span', llm ? 't llm' : 't slm', visible(token[TEXT]));
  span.dataset.i = index;
  span.classList.toggle('forced', Boolean(token[FORCED]));
  span.classList.toggle('newline', llm && isBreak(token[TEXT]));
  span.classList.toggle('empty', token[TEXT] === '');
  span.prepend(...struckOf(token));
  return span;
};

// Whether a span of one token can stand for another.
export const isDrawnAs = (a, b) => b !== undefined && a[TEXT] === b[TEXT] && a[AUTHOR] === b[AUTHOR] && a[FORCED] === b[FORCED]
  && String(a[TAKEN] ?? '') === String(b[TAKEN] ?? '');

export class Text {
  tokens = [];
  message = null;        // the newest about this text
  foreign = false;       // whether it is a recorded one, which no session has
  awaited = false;       // whether another was asked for, of which there is no token yet
  focused = -1;
  pinned = -1;
  #cut = Infinity;       // where it is cut off before the next token is drawn

  constructor(box) { this.box = box; }

  get spans() { return this.box.childNodes; }

  // Whether nothing is being added to it.
  get over() { return this.message !== null && !['running', 'waiting'].includes(this.message.state); }

  get words() { return this.tokens.map((token) => token[TEXT]).join(''); }

  get branchable() { return this.over && !this.message.fixed; }

  isEnd(index) {
    return this.message?.finish === 'eos' && index === this.tokens.length - 1 && this.tokens[index]?.[TEXT] === '';
  }

  // Other tokens, of which the first `kept` are those that are there.
  replace(tokens, kept) {
    this.tokens = tokens;
    this.#cut = Math.min(this.#cut, kept);
  }

  // Gives the class to the span of one token only, or of none.
  mark(className, index) {
    this.box.querySelector(`.${className}`)?.classList.remove(className);
    this.spans[index]?.classList.add(className);
  }

  draw() {
    if (this.#cut < Infinity) this.#clear();
    const { box, spans } = this, from = spans.length;
    box.append(...this.tokens.slice(from).map((token, i) => spanOf(token, from + i)));
    spans.forEach((span, i) => span.classList.toggle('draft', isDraft(this.tokens[i])));
    const last = spans.length - 1;
    spans[last]?.classList.toggle('end', this.isEnd(last));   // the end is no token to a person
    box.classList.toggle('code', /```|^ {4}\S/m.test(this.words));
  }

  // Takes away what another run or threshold has changed; what stays keeps its place, its focus and its pin.
  #clear() {
    const from = this.#cut;
    this.#cut = Infinity;
    while (this.spans.length > from) this.box.lastChild.remove();
    for (const span of this.spans) span.classList.remove('flip', 'stale');
    if (this.focused >= from) this.focused = -1;
    if (this.pinned >= from) this.pinned = -1;
    this.box.dispatchEvent(new CustomEvent('cut'));
  }
}
