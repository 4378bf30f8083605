// Two kept texts side by side, what differs marked from the first difference on. Text of models is written with textContent.
import { WORDS } from '../dashboard/headline.js';
import { finder, make, say } from '../lib/dom.js';
import { counted, spelled, visible } from '../lib/format.js';
import { AUTHOR, LLM, NAMES, TEXT } from '../lib/threshold.js';
import { differing } from '../stream/difference.js';

const UNKNOWN = '–';

const spanOf = (token, i, marked) => {
  const span = make('span', token[AUTHOR] === LLM ? 'w llm' : 'w slm', visible(token[TEXT]));
  span.classList.toggle('differs', marked.has(i));
  span.classList.toggle('newline', token[TEXT].includes('\n') && (marked.has(i) || token[AUTHOR] === LLM));
  return span;
};

// Numbers of the tokens of `text` that the other has not; of what is empty, such as the end, there is nothing to mark.
const markedOf = (text, other) => new Set([...differing(other, text)].filter((i) => text[i][TEXT] !== ''));

const named = (token) => (token ? `‘${spelled(token[TEXT])}’ (${NAMES[token[AUTHOR]]})` : 'the end');

// In one sentence: where they differ first, and how much.
const saidOf = ([one, other], marks) => {
  const at = one.findIndex((token, i) => token[TEXT] !== other[i]?.[TEXT] || token[AUTHOR] !== other[i]?.[AUTHOR]);
  const first = at < 0 ? one.length : at;
  if (first === one.length && first === other.length) return 'Both texts are the same, token for token.';
  const [left, right] = marks.map((marked) => marked.size);
  return `The same up to token ${first}; then ${named(one[first])} on one side and ${named(other[first])} on the other. `
    + `Marked are ${counted(left, 'token')} and ${counted(right, 'token')} that the other has not, or not by that model.`;
};

// Lets two versions be picked in the strip, and shows them. `ask` has the server send them, `goTo` puts one on the page.
// Returns what takes the server's message.
export const startBeside = (element, list, ask, goTo) => {
  const find = finder(element), opener = find('.beside-open'), dialog = find('.beside'), articles = [...dialog.querySelectorAll('article')];
  let picking = false, picked = [], known = [], shown = 0;   // numbers of versions; `shown`: of the message that was shown last

  const draw = () => {
    opener.setAttribute('aria-pressed', picking);
    for (const button of list.children) {
      if (picking) button.setAttribute('aria-pressed', picked.includes(Number(button.dataset.number)));
      else button.removeAttribute('aria-pressed');
    }
    say(find('.beside-hint'), picking ? `Choose ${picked.length ? 'another text' : 'two texts'} in the strip. Esc leaves it.` : '');
  };

  const stop = () => { picking = false; picked = []; draw(); };

  // In their order in the strip: the older one is on the left.
  const request = (numbers) => {
    const [first, second] = known.filter((number) => numbers.includes(number));
    stop();
    ask({ first, second });
  };

  const begin = (current) => {
    if (picking) return stop();
    if (known.length === 2) return request(known);
    picking = true;
    picked = [current].filter((number) => known.includes(number));
    draw();
    (list.querySelector('[aria-pressed="false"]') ?? opener).focus();
  };

  // Whether a version that was clicked is one that is picked.
  const pick = (number) => {
    if (!picking) return false;
    picked = picked.includes(number) ? picked.filter((each) => each !== number) : [...picked, number];
    if (picked.length === 2) request(picked);
    else draw();
    return true;
  };

  const show = (texts) => {
    const tokens = texts.map((each) => each.tokens), marks = [markedOf(...tokens), markedOf(tokens[1], tokens[0])];
    say(find('.beside-says'), saidOf(tokens, marks));
    articles.forEach((article, side) => {
      const { number, figures } = texts[side], own = list.querySelector(`[data-number="${number}"]`), box = article.querySelector('.beside-text');
      const name = own?.querySelector('b').textContent ?? String(number);
      say(article.querySelector('h3'), `Threshold ${name}`);
      article.querySelector('.beside-headline').replaceChildren(...WORDS.filter(([key]) => figures[key] !== UNKNOWN).map(([key, words]) => {
        const part = make('span', '', ` ${words}`);
        part.prepend(make('b', '', figures[key]));
        return part;
      }));
      box.replaceChildren(...tokens[side].map((token, i) => spanOf(token, i, marks[side])));
      box.setAttribute('aria-label', `Text at threshold ${name}`);
      article.querySelector('.beside-take').onclick = () => { dialog.close(); goTo({ number }); };
    });
    if (!dialog.open) dialog.showModal();
    for (const box of dialog.querySelectorAll('.beside-text')) {   // both from where they part
      const first = box.querySelector('.differs');
      box.scrollTop = first ? Math.max(0, first.offsetTop - 40) : 0;
    }
  };

  find('.beside-close').addEventListener('click', () => dialog.close());
  dialog.addEventListener('click', (event) => { if (event.target === dialog) dialog.close(); });   // beside it
  dialog.addEventListener('close', () => opener.focus());
  element.addEventListener('keydown', (event) => {
    if (event.key !== 'Escape' || !(picking || dialog.open)) return;
    event.stopPropagation();   // it is for this alone; the dialog closes by itself
    if (!dialog.open) { stop(); opener.focus(); }
  });

  return {
    pick,
    take({ at, versions, current, beside }) {
      known = versions.map(([number]) => number);
      picked = picked.filter((number) => known.includes(number));
      opener.disabled = known.length < 2;
      opener.onclick = () => begin(current);
      if (known.length < 2) stop();
      draw();
      if (beside && at > shown) { shown = at; show(beside); }
    },
  };
};
