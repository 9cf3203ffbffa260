// SPDX-License-Identifier: Apache-2.0

package docpage

import (
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// Run tries all commands of a program in the pages and files that tell people how to run it, of a checkout. It gives what
// is wrong, and the files that run it.
func Run(root, program string, try func(args []string) error) (wrong, files []string, err error) {
	checkout := os.DirFS(root)
	for _, place := range []string{"README.md", "docs", "deploy"} {
		err := fs.WalkDir(checkout, place, func(name string, d fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case d.IsDir() && d.Name() == "node_modules":
				return fs.SkipDir
			case d.IsDir():
				return nil
			}
			text, err := fs.ReadFile(checkout, name)
			if err != nil {
				return err
			}
			found, err := Commands(name, string(text), program)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			if len(found) > 0 {
				files = append(files, name)
			}
			for _, c := range found {
				if err := try(c.Args); err != nil {
					wrong = append(wrong, fmt.Sprintf("%s:%d: %s %s: %v", name, c.Line, program, strings.Join(c.Args, " "), err))
				}
			}
			return nil
		})
		if err != nil {
			return nil, nil, err
		}
	}
	return wrong, files, nil
}
