// The text on the page: its tokens, a span for each of them, and which of them are pointed at.
import { make } from '../lib/dom.js';
import { visible } from '../lib/format.js';
import { AUTHOR, FORCED, isDraft, LLM, TAKEN, TEXT } from '../lib/threshold.js';

// What was taken back in a token's place, to stand before it.
const struckOf = (token) => (token[TAKEN] ?? []).map((text) => make('del', '', visible(text).replaceAll('\n', '↵')));

const spanOf = (token, index) => {
  const llm = token[AUTHOR] === LLM, span = make('span', llm ? 't llm' : 't slm', visible(token[TEXT]));
  span.dataset.i = index;
  span.classList.toggle('forced', Boolean(token[FORCED]));
  span.classList.toggle('newline', llm && token[TEXT].includes('\n'));
  span.classList.toggle('empty', token[TEXT] === '');
  return span;
};

export class Text {
  tokens = [];
  message = null;        // the newest about this text
  foreign = false;       // whether it is a sweep's
  awaited = false;       // whether another was asked for, of which there is no token yet
  focused = -1;
  pinned = -1;
  hovered = -1;
  changed = new Set();   // numbers of tokens that a sweep's text before it had not
  #struck = false;       // whether what was taken back is shown
  #cut = Infinity;       // where it is cut off before the next token is drawn

  constructor(box) { this.box = box; }

  get spans() { return this.box.childNodes; }

  // Whether nothing is being added to it.
  get over() { return this.message !== null && !['running', 'waiting'].includes(this.message.state); }

  get branchable() { return this.over && !this.message.fixed; }

  get current() { return [this.hovered, this.focused, this.pinned].find((index) => index >= 0) ?? -1; }

  isEnd(index) {
    return !this.foreign && this.message?.finish === 'eos' && index === this.tokens.length - 1 && this.tokens[index][TEXT] === '';
  }

  // Other tokens, of which the first `kept` are those that are there.
  replace(tokens, kept, changed = new Set()) {
    Object.assign(this, { tokens, changed });
    this.#cut = Math.min(this.#cut, kept);
  }

  // Gives the class to the span of one token only, or of none.
  mark(className, index) {
    this.box.querySelector(`.${className}`)?.classList.remove(className);
    this.spans[index]?.classList.add(className);
  }

  draw() {
    if (this.#cut < Infinity) this.#clear();
    const { box, spans } = this, from = spans.length, stick = box.scrollHeight - box.scrollTop - box.clientHeight < 40;
    box.append(...this.tokens.slice(from).map((token, i) => spanOf(token, from + i)));
    if (this.#struck) for (let i = from; i < spans.length; i++) spans[i].prepend(...struckOf(this.tokens[i]));
    spans.forEach((span, i) => span.classList.toggle('draft', isDraft(this.tokens[i])));
    const last = spans.length - 1;
    if (last >= 0 && this.isEnd(last) && !spans[last].classList.contains('end')) {
      spans[last].classList.add('end');
      spans[last].append('end');
    }
    for (const span of box.querySelectorAll('.changed')) span.classList.remove('changed');
    for (const index of this.changed) spans[index]?.classList.add('changed');
    if (stick) box.scrollTop = 1e9;
  }

  // Shows what was taken back, struck through in its place, or the text alone.
  strike(on) {
    this.#struck = on;
    this.spans.forEach((span, i) => {
      span.querySelectorAll('del').forEach((struck) => struck.remove());
      if (on) span.prepend(...struckOf(this.tokens[i]));
    });
  }

  // Takes away what another run or threshold has changed; what stays keeps its place, its focus and its pin.
  #clear() {
    const from = this.#cut;
    this.#cut = Infinity;
    while (this.spans.length > from) this.box.lastChild.remove();
    for (const span of this.spans) span.classList.remove('flip', 'stale');
    if (this.focused >= from) this.focused = -1;
    if (this.pinned >= from) this.pinned = -1;
    this.hovered = -1;
    if (from === 0) this.box.scrollTop = 0;
    this.box.dispatchEvent(new CustomEvent('cut'));
  }
}
