// One line beside the dials about the text on the page: the LLM's share, the cost and the speed, beside the LLM alone.
import { finder, listen, make } from '../lib/dom.js';

const WORDS = [['share', 'by the LLM'], ['cost', 'of its cost'], ['speed', 'as fast']];

export const start = ({ element }) => {
  const line = finder(element)('.headline');
  let own = null;   // of the last text that was written; a sweep's texts have theirs

  const draw = (figures) => {
    if (!figures) return;
    const parts = WORDS.filter(([name]) => figures[name]).map(([name, words]) => {
      const part = make('span', '', ` ${words}`);
      part.prepend(make('b', '', figures[name]));
      return part;
    });
    line.replaceChildren(...parts);
  };

  listen(element, 'citer-figures', ({ detail }) => { own = detail; draw(own); });
  listen(element, 'citer-text', ({ detail: { figures } }) => draw(figures));
  listen(element, 'citer-run', () => draw(own));
};
