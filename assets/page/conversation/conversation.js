// The messages before the prompt, each answer in its authors' colours. Generate goes on from what stands here.
import { follow } from '../lib/channel.js';
import { announce, finder, say } from '../lib/dom.js';
import { counted } from '../lib/format.js';
import { turnItem } from './turns.js';

export const start = ({ element, props, trigger, watch }) => {
  const find = finder(element), list = find('.turns');
  find('.conversation-new').addEventListener('click', () => {
    trigger('new_conversation');
    document.querySelector('#prompt textarea')?.focus();
  });
  follow({ props, watch }, (turns) => {
    find('.conversation').hidden = turns.length === 0;
    list.replaceChildren(...turns.map(turnItem));
    list.scrollTop = list.scrollHeight;
    say(find('.conversation-count'), turns.length ? counted(turns.length, 'message') : '');
    announce('citer-conversation');
  }, []);
};
