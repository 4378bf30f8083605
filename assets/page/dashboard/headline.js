// One line beside the dials about the text on the page: the LLM's share, the cost and the speed, beside the LLM alone.
import { finder, listen, make } from '../lib/dom.js';

export const WORDS = [['share', 'by the LLM'], ['relative', 'of its cost'], ['faster', 'as fast']], UNKNOWN = '–';   // figures of the meter
const NONE = 'Share and cost of your text';

export const start = ({ element }) => {
  const line = finder(element)('.headline');
  let own = null, foreign = false;   // of the last text that was written; a sweep's texts have theirs

  const draw = (figures) => {
    const parts = WORDS.filter(([name]) => (figures?.[name] ?? UNKNOWN) !== UNKNOWN).map(([name, words]) => {
      const part = make('span', '', ` ${words}`);
      part.prepend(make('b', '', figures[name]));
      return part;
    });
    line.replaceChildren(...(figures ? parts : [make('span', 'headline-none', NONE)]));
  };

  listen(element, 'citer-figures', ({ detail }) => {
    own = detail;
    if (!foreign) draw(own);
  });
  listen(element, 'citer-text', ({ detail: { figures } }) => { foreign = true; draw(figures); });
  listen(element, 'citer-run', () => { foreign = false; draw(own); });
  document.dispatchEvent(new CustomEvent('citer-text-wanted'));
};
