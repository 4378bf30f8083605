// Says what a link filled in and what it could not.
import { follow } from '../lib/channel.js';
import { finder, make } from '../lib/dom.js';

export const start = ({ element, props, watch }) => {
  const find = finder(element);
  follow({ props, watch }, (message) => {
    const { said, refused } = message ?? { said: '', refused: [] };
    find('.link-note').hidden = !said;
    find('p').textContent = said;
    find('ul').replaceChildren(...refused.map((text) => make('li', '', text)));
  });
};
