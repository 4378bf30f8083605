// One line beside the dials about the text on the page: the LLM's share, the cost and the speed, beside the LLM alone.
import { finder, listen, make } from '../lib/dom.js';

export const WORDS = [['share', 'by the LLM'], ['relative', 'of its cost'], ['faster', 'as fast']], UNKNOWN = '–';   // figures of the meter
const NONE = 'Share and cost of your text';

export const start = ({ element }) => {
  const line = finder(element)('.headline');
  // Of the last text that was written; a sweep's texts have theirs. The share is that of the count beside the text, which comes with
  // every token; cost and speed come once a second, and are those of another text until they say of which.
  let figures = null, count = null, foreign = false;

  const draw = (known) => {
    const parts = WORDS.filter(([name]) => (known?.[name] ?? UNKNOWN) !== UNKNOWN).map(([name, words]) => {
      const part = make('span', '', ` ${words}`);
      part.prepend(make('b', '', known[name]));
      return part;
    });
    line.replaceChildren(...(known ? parts : [make('span', 'headline-none', NONE)]));
  };

  const own = () => (!count || !figures ? count ?? figures : figures.n === count.n ? { ...figures, share: count.share } : count);
  const drawOwn = () => { if (!foreign) draw(own()); };

  listen(element, 'citer-figures', ({ detail }) => { figures = detail; drawOwn(); });
  listen(element, 'citer-count', ({ detail }) => { count = detail; drawOwn(); });
  listen(element, 'citer-text', ({ detail }) => { foreign = true; draw(detail.figures); });
  listen(element, 'citer-shown', ({ detail }) => line.classList.toggle('former', detail.awaited));
  listen(element, 'citer-run', () => { foreign = false; draw(own()); });
  document.dispatchEvent(new CustomEvent('citer-text-wanted'));
};
