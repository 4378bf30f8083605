// One of the three texts. How much of it is shown depends on the time on the axis.
import { finder, make, say } from '../lib/dom.js';
import { counted, percent, seconds, visible } from '../lib/format.js';
import { LLM } from '../lib/threshold.js';

export const [KEY, TEXT, AUTHOR, SECONDS] = Array(4).keys();   // of a token; the key is its column's

const spanOf = (token) => {
  const span = make('span', token[AUTHOR] === LLM ? 'w llm' : 'w slm', visible(token[TEXT]));
  span.classList.toggle('newline', token[TEXT].includes('\n'));
  return span;
};

export class Column {
  tokens = [];
  #spans = [];

  constructor(key, place) {
    this.key = key;
    [this.count, this.box] = ['.compare-count', '.compare-text'].map(finder(place));
  }

  // Modelled seconds until its last token.
  get end() { return this.tokens.at(-1)?.[SECONDS] ?? 0; }

  clear() {
    this.tokens = [];
    this.#spans = [];
    this.box.replaceChildren();
  }

  draw(title, emptyNote, ended, over) {
    const { box, tokens } = this, spans = this.#spans, added = tokens.slice(spans.length).map(spanOf);
    const atBottom = box.scrollHeight - box.scrollTop - box.clientHeight < 40;
    this.title = title;
    box.dataset.empty = emptyNote;
    spans.push(...added);
    box.append(...added);
    if (ended && tokens.at(-1)?.[TEXT] === '') {
      spans.at(-1).classList.add('end');
      spans.at(-1).textContent = 'end';
    }
    if (atBottom && !over) box.scrollTop = box.scrollHeight;
  }

  markOnly(differing) { this.#spans.forEach((span, i) => span.classList.toggle('differs', differing.has(i))); }

  // Shows the tokens written by then, and once the text is over also scrolls to the last of them.
  showUntil(time, over) {
    const { tokens, box } = this, written = tokens.filter((token) => token[SECONDS] <= time), shown = written.length;
    this.#spans.forEach((span, i) => span.classList.toggle('later', i >= shown));
    if (over && Number.isFinite(time) && shown > 0) {
      const { offsetTop, offsetHeight } = this.#spans[shown - 1], bottom = offsetTop + offsetHeight;
      if (bottom > box.scrollTop + box.clientHeight || bottom < box.scrollTop) box.scrollTop = bottom - box.clientHeight;
    }
    const llm = written.filter((token) => token[AUTHOR] === LLM).length, share = percent(shown ? llm / shown : 0);
    const all = shown === tokens.length ? shown : `${shown} of ${tokens.length}`;
    say(this.count, tokens.length ? `${counted(all, 'token')} · LLM ${share} · ${seconds(Math.min(time, this.end))}` : '');
  }
}
