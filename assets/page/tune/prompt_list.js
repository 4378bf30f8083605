// What every prompt gave at the measured threshold nearest to the picked one; its text is fetched when it is asked for.
import { make, makeButton } from '../lib/dom.js';
import { wholePercent } from '../lib/format.js';

export class PromptList {
  #prompts = [];

  // `textOf(number, at)` resolves to a prompt and its text at a point, or to null.
  constructor(list, textOf) { Object.assign(this, { list, textOf }); }

  add([number, where, prompt, expected, right, agreement]) {
    const item = Object.assign(make('li', 'tune-item'), { title: where, value: number }), head = make('div', 'tune-item-head');
    const mark = make('span', 'tune-mark'), answer = make('span', 'tune-item-expected', expected === null ? '' : `→ ${expected}`);
    const button = makeButton('', 'text'), text = Object.assign(make('pre', 'tune-text'), { hidden: true, tabIndex: 0 });
    const one = { number, mark, text, right, agreement, shown: null };   // shown: the point whose text it has
    head.append(mark, make('span', 'tune-item-prompt', prompt), answer, button);
    item.append(head, text);
    button.setAttribute('aria-expanded', 'false');
    button.addEventListener('click', () => {
      text.hidden = !text.hidden;
      button.setAttribute('aria-expanded', String(!text.hidden));
      one.shown = null;
      this.#drawText(one);
    });
    this.#prompts.push(one);
    this.list.insertBefore(item, [...this.list.children].find((other) => other.value > number) ?? null);
  }

  draw(kind, at) {
    this.at = at;
    for (const one of this.#prompts) {
      const right = kind === 'right' ? one.right?.[at] : undefined, same = `${wholePercent(one.agreement[at])} as the large model`;
      one.mark.textContent = right === undefined ? same : right ? '✓ right' : '✗ wrong';
      one.mark.classList.toggle('wrong', right === false);
      this.#drawText(one);
    }
  }

  clear() {
    this.#prompts = [];
    this.list.replaceChildren();
  }

  async #drawText(one) {
    const { at } = this;
    if (one.text.hidden || one.shown === at) return;
    one.shown = at;
    const answer = await this.textOf(one.number, at);
    if (one.shown !== at) return;
    one.text.replaceChildren(...(answer ? [make('span', 'tune-text-prompt', `${answer.prompt}\n\n`), answer.text]
      : ['This text is not kept any more.']));
  }
}
