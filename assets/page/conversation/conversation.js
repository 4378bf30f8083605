// What was said before the prompt, every answer in its authors' colours. It is a field of the page: Generate goes on from
// what stands here.
import { follow } from '../lib/channel.js';
import { finder, make, say } from '../lib/dom.js';
import { counted, visible } from '../lib/format.js';
import { piecesOf, SPEAKERS } from './turns.js';

const itemOf = (turn) => {
  const item = make('li', `turn ${turn.role}`), text = make('div', 'turn-text');
  text.append(...piecesOf(turn).map(([part, author]) => make('span', author ? `w ${author}` : '', visible(part))));
  item.append(make('b', 'turn-who', SPEAKERS[turn.role]), text);
  return item;
};

export const start = ({ element, props, trigger, watch }) => {
  const find = finder(element), list = find('.turns');
  find('.conversation-new').addEventListener('click', () => {
    trigger('new_conversation');
    document.querySelector('#prompt textarea')?.focus();
  });
  follow({ props, watch }, (said) => {
    const turns = said ?? [];
    find('.conversation').hidden = turns.length === 0;
    list.replaceChildren(...turns.map(itemOf));
    list.scrollTop = list.scrollHeight;
    say(find('.conversation-count'), turns.length ? counted(turns.length, 'message') : '');
    document.dispatchEvent(new CustomEvent('citer-conversation'));
  });
};
